"""FLAIN in Flower: purify the global model after the last round."""

from .errors import PurificationError
from .purify import purify
from .strategy import Purify
from .trusted_nodes import TrustedNodes, answer

__all__ = ["PurificationError", "Purify", "TrustedNodes", "answer", "purify"]
