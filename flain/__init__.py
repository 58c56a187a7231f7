"""FLAIN: remove backdoors from federated models after training, by flipping weight updates.

>>> import flain
>>> flain.Settings(tolerance=0.005).tolerance
0.005
"""

import typing

import flain_core
from flain_core import __version__

if typing.TYPE_CHECKING:
    from flain_core import *

__all__ = ["__version__"]
__all__ += flain_core.__all__

# Type checkers would take any name for one that it offers.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> typing.Any:
        """Leave it to :mod:`flain_core`, which loads what is offered when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(flain_core, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"typing"})
