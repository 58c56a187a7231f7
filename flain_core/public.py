"""Loads what `flain_core` offers; that happens when the first name of it is used."""

from .activation import ActivationStatistics
from .arrays.purify_arrays import PurifiedArrays, purify_arrays
from .errors import (
    DataError,
    FlainError,
    FlainWarning,
    LayerError,
    ModelError,
    OutputError,
    SettingsError,
    WeightsError,
)
from .flipping import flip, low_activation, match_norm
from .main_call import purify
from .network import Cut, Layer, Network
from .opening.known_backends import Backend
from .outcome.layer import LayerOutcome, Step
from .outcome.measurement import Measurement
from .progress import Progress
from .promise import Promise
from .purification import Purification
from .score import accuracy
from .settings import Grid, Settings

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
