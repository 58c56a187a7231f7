"""FLAIN in Flower: purify the global model after the last round."""

from .errors import PurificationError
from .purify import purify
from .strategy import Purify

__all__ = ["PurificationError", "Purify", "purify"]
