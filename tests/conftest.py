"""What pytest leaves alone."""

import os

# Scripts that tests run in processes of their own.
collect_ignore_glob = ["flare_jobs/*"]

# They load Keras, with whatever engine; test_keras.py runs them, in processes of their own.
if "KERAS_BACKEND" not in os.environ:
    collect_ignore = ["backends/keras_suite.py", "backends/keras_models.py"]
