"""The doctests run Keras on an engine that the other tests load anyway."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
