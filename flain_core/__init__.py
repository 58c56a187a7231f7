"""FLAIN: remove backdoors from federated models after training, by flipping weight updates."""

import typing

if typing.TYPE_CHECKING:
    from .public import *

__version__ = "0.2.0"

__all__ = [
    "ActivationStatistics",
    "Backend",
    "Cut",
    "DataError",
    "FlainError",
    "FlainWarning",
    "Grid",
    "Layer",
    "LayerError",
    "LayerOutcome",
    "Measurement",
    "ModelError",
    "Network",
    "OutputError",
    "Progress",
    "Promise",
    "Purification",
    "PurifiedArrays",
    "Settings",
    "SettingsError",
    "Step",
    "WeightsError",
    "accuracy",
    "flip",
    "low_activation",
    "match_norm",
    "purify",
    "purify_arrays",
]

# Type checkers would take any name for one that it offers.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> typing.Any:
        """Load what is offered when it is first asked for: the import alone costs nothing."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import public

        return getattr(public, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"typing"})
