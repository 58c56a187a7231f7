"""What pytest leaves alone."""

import os

# They load Keras, with whatever engine; keras_engines.py runs them, in processes of their own.
if "KERAS_BACKEND" not in os.environ:
    collect_ignore = [
        "backends/keras_conformance.py",
        "backends/keras_models.py",
        "backends/keras_suite.py",
    ]
