"""Keras 3 models for flain, on any engine: open, load and save them, and take their arrays.

>>> import keras
>>> from flain_keras import open_network
>>> model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="fc1")])
>>> open_network(model).layers()["fc1"]
Layer('fc1', dense, 4×6, 6 input neurons)
"""

from __future__ import annotations

from ._files import load, save
from ._network import KerasNetwork, arrays_of, open_network

__all__ = ["KerasNetwork", "arrays_of", "load", "open_network", "save"]
