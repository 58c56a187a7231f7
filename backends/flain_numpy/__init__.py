"""Small inference-only networks in NumPy, for plain arrays and for tests without a framework.

>>> import numpy as np
>>> import flain_numpy as fn
>>> network = fn.Network([
...     fn.Conv2d("conv1", np.ones((4, 1, 3, 3), np.float32), padding=1), fn.ReLU(),
...     fn.MaxPool2d(2), fn.Flatten(),
...     fn.Dense("fc1", np.ones((10, 64), np.float32), np.zeros(10, np.float32)),
... ])
>>> network.predict(np.zeros((2, 1, 8, 8), np.float32)).shape
(2, 10)
>>> list(network.layers())
['conv1', 'fc1']
"""

from ._files import load, save
from ._layers import Conv2d, Dense
from ._operations import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from ._program import Residual
from .network import Network, arrays_of, open_network

__all__ = [
    "GELU",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Flatten",
    "GlobalAvgPool2d",
    "MaxPool2d",
    "Network",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "arrays_of",
    "load",
    "open_network",
    "save",
]
