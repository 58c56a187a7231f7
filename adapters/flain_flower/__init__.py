"""FLAIN in Flower: purify the global model after the last round."""

from .purify import purify
from .strategy import PurificationError, Purify
from .trusted_nodes import TrustedNodes, answer

__all__ = ["PurificationError", "Purify", "TrustedNodes", "answer", "purify"]
