"""FLAIN: remove backdoors from federated models after training, by flipping weight updates.

>>> import flain
>>> flain.Settings(tolerance=0.005).tolerance
0.005
"""

import flain_core
from flain_core import *  # noqa: F403
from flain_core import __version__

__all__ = ["__version__"]
__all__ += flain_core.__all__
