"""Functions that answer for every engine under Keras where the engines differ."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import keras
import numpy as np

from flain_core.backend_kit import switched, switches_of
from flain_core.network import Array

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
"""Machine epsilon by number type."""

_NARROW = ("float16", "bfloat16")


def no_gradients() -> AbstractContextManager[object]:
    """Keep the torch engine from recording what it runs; the others record on request only."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    context: AbstractContextManager[object] = torch.no_grad()
    return context


def single_precision() -> AbstractContextManager[None]:
    """Multiply in float32, where an accelerator would round factors to 10 bits (TensorFloat-32).

    A search compares scores that differ by less.
    """
    engine = keras.backend.backend()
    if not _has_accelerator(engine):
        return nullcontext()
    if engine == "jax":
        import jax

        exact: AbstractContextManager[None] = jax.default_matmul_precision("highest")
        return exact
    if engine == "torch":
        import torch

        return switched(switches_of(torch))
    return switched([(_TensorFlow(), "rounds", False)])


@cache
def _has_accelerator(engine: str) -> bool:
    if engine == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    if engine == "torch":
        import torch

        return torch.cuda.is_available()
    if engine == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    return False


class _TensorFlow:
    """TensorFlow's switch, as an attribute."""

    @property
    def rounds(self) -> bool:
        import tensorflow

        return bool(tensorflow.config.experimental.tensor_float_32_execution_enabled())

    @rounds.setter
    def rounds(self, value: bool) -> None:
        import tensorflow

        tensorflow.config.experimental.enable_tensor_float_32_execution(value)


def dtype_of(tensor: Any) -> str:
    """Name the number type of an engine's tensor, such as ``"float32"``."""
    return str(keras.backend.standardize_dtype(tensor.dtype))


def as_array(tensor: Any) -> Array:
    """Copy an engine's tensor into memory of its own; half precision becomes float32."""
    if dtype_of(tensor) in _NARROW:
        tensor = keras.ops.cast(tensor, "float32")
    return np.array(keras.ops.convert_to_numpy(tensor), order="C")


def nbytes_of(tensor: Any) -> int:
    """Return about how many bytes an engine's tensor takes."""
    bits = "".join(filter(str.isdigit, dtype_of(tensor))) or "8"
    return int(math.prod(tensor.shape)) * int(bits) // 8
