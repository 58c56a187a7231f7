"""What pytest leaves alone."""

import os

# They load Keras, with whatever engine; test_keras.py and test_cli_keras.py run them, in processes
# of their own.
if "FLAIN_KERAS_SUITE" not in os.environ:
    collect_ignore = [
        "adapters/cli_keras_suite.py",
        "backends/keras_suite.py",
        "backends/keras_models.py",
    ]
