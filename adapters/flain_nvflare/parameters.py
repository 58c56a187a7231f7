"""The parameters of a server's model as arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nvflare.app_common.np.constants import NPConstants

from flain_core import WeightsError
from flain_core.network import Array

_KERAS_MARK = "_nvf_"


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters that a workflow hands to its persistor, by name.

    Attributes:
        given: Arrays or tensors by name: PyTorch's names; ``<layer>_nvf_<position>`` for Keras; or
            the one name ``numpy_key`` for a job whose model is a single array.
        model: The architecture that they belong to.
    """

    given: Mapping[str, Any]
    model: Any

    @property
    def arrays(self) -> dict[str, Array] | list[Array] | Array:
        """Arrays in the form that :func:`flain_core.purify_arrays` takes.

        Raises:
            WeightsError: A parameter is neither an array nor a tensor, or layers are missing.
        """
        arrays = {name: _array(name, value) for name, value in self.given.items()}
        if list(arrays) == [NPConstants.NUMPY_KEY]:
            return arrays[NPConstants.NUMPY_KEY].reshape(-1)
        order = self._keras_order
        return arrays if order is None else [arrays[name] for name in order]

    def holding(self, arrays: Any) -> dict[str, Any]:
        """Return parameters with the names, order, shapes and kinds of these, and other values.

        Args:
            arrays: The values, in the form that :attr:`arrays` has.
        """
        order = self._keras_order
        if order is not None:
            arrays = dict(zip(order, arrays, strict=True))
        elif not isinstance(arrays, Mapping):
            arrays = {NPConstants.NUMPY_KEY: arrays}
        return {name: _like(value, arrays[name]) for name, value in self.given.items()}

    @property
    def _keras_order(self) -> list[str] | None:
        """Names in the order of Keras's ``get_weights()``; None for other frameworks."""
        if not self.given or not all(_KERAS_MARK in str(name) for name in self.given):
            return None
        order = [
            f"{layer.name}{_KERAS_MARK}{position}"
            for layer in getattr(self.model, "layers", ())
            for position in range(len(layer.get_weights()))
        ]
        if set(order) != set(self.given):
            missing = ", ".join(map(repr, sorted(set(order) ^ set(self.given))))
            raise WeightsError(
                "expected the weights of every layer of the Keras model and no others; only one "
                f"of the two has {missing}"
            )
        return order


def _array(name: str, value: Any) -> Array:
    # Averaging an array without axes makes a NumPy number of it.
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if _is_tensor(value):
        try:
            array: Array = value.detach().cpu().numpy()
        except TypeError as error:
            raise WeightsError(
                f"NumPy has no type for {name!r}, {value.dtype}; let the server hold NumPy arrays "
                "(server_expected_format), or train in float32"
            ) from error
        return array
    raise WeightsError(
        f"expected the parameter {name!r} to be an array; got a {type(value).__name__}. Encrypted "
        "or nested parameters cannot be purified"
    )


def _like(value: Any, array: Array) -> Any:
    if _is_tensor(value):
        import torch

        return torch.from_numpy(np.array(array)).to(value.device)
    return array.reshape(np.shape(value))


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")
