"""What pytest leaves alone, and what tests tell nobody."""

import os
import tempfile

# Before Flower is imported anywhere: it reads the first of them at once, and posts by default.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("FLWR_HOME", os.path.join(tempfile.gettempdir(), "flain-tests-flower"))

# Scripts that tests run in processes of their own.
collect_ignore_glob = ["flare_jobs/*"]

# They load Keras, with whatever engine; engines.py runs them, in processes of their own.
if "FLAIN_KERAS_SUITE" not in os.environ:
    collect_ignore = [
        "adapters/cli_keras_suite.py",
        "backends/keras_conformance.py",
        "backends/keras_models.py",
        "backends/keras_suite.py",
    ]
