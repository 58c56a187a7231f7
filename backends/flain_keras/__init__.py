"""Keras 3 models for flain, on any engine: open, load and save them, and take their arrays.

>>> import keras
>>> from flain_keras import open_network
>>> model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="fc1")])
>>> open_network(model).layers()["fc1"]
Layer('fc1', dense, 4×6, 6 input neurons)
"""

from __future__ import annotations

from flain_core.extras import needs

with needs(
    "flain_keras",
    "keras",
    *("keras", "h5py", "tensorflow", "jax", "torch"),
    also=", and an engine: tensorflow, or jax or torch with KERAS_BACKEND set to its name",
):
    from ._files import load, save
    from ._network import KerasNetwork, arrays_of, open_network

__all__ = ["KerasNetwork", "arrays_of", "load", "open_network", "save"]
