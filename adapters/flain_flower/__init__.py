"""FLAIN in Flower: purify the global model after the last round."""

from flain_core.extras import needs

from .floor import check_flower

with needs("flain_flower", "flower", "flwr", also=", with Python 3.11 or newer"):
    check_flower()
    from .kept import load_arrays
    from .purify import purify
    from .strategy import PurificationError, Purify
    from .trusted_nodes import TrustedNodes, answer

__all__ = ["PurificationError", "Purify", "TrustedNodes", "answer", "load_arrays", "purify"]
