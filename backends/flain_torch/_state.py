"""Getting the weights of a module as arrays, and loading weights into one, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flain_core.errors import ModelError, WeightsError
from flain_core.network import Array

from ._layers import array_of
from ._private import private_copy

_WRAPPERS = ("module.", "_orig_mod.")


def arrays_of(module: nn.Module, *, buffers: bool = True) -> dict[str, Array]:
    """Copy the tensors of a module into arrays, as its ``state_dict()`` names and orders them.

    Without what ``torch.compile`` and ``DataParallel`` put into names; bfloat16, which NumPy lacks,
    becomes float32.

    Args:
        module: A module.
        buffers: False for its ``parameters()`` alone, each once.

    Raises:
        ModelError: The module cannot be copied, or its state is not all tensors.

    >>> list(arrays_of(nn.BatchNorm1d(3), buffers=False))
    ['weight', 'bias']
    """
    copied = private_copy(module)
    state = copied.state_dict() if buffers else dict(copied.named_parameters())
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the {type(copied).__name__} keeps {name!r}, a {type(value).__name__}, beside its "
                "tensors, which no array holds; load the weights into two modules and give those"
            )
    return {name: array_of(tensor) for name, tensor in state.items()}


def load_state(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load ``weights``, tensors or NumPy arrays by name, all of them and nothing else."""
    state = {name: _entry(name, value) for name, value in weights.items()}
    try:
        module.load_state_dict(_without_wrappers(state, module))
    except Exception as error:
        raise WeightsError(
            f"the weights do not fit the {type(module).__name__}; "
            f"they must come from the same architecture: {error}"
        ) from error


def _entry(name: object, value: Any) -> Any:
    if not isinstance(name, str):
        raise WeightsError(f"expected weights by name; got the name {name!r}")
    if isinstance(value, np.ndarray):
        try:
            value = torch.tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"expected numbers for {name!r}; got {value.dtype}") from error
    if isinstance(value, Tensor) and value.is_complex():
        raise WeightsError(f"expected real numbers for {name!r}; got {value.dtype}")
    if not isinstance(value, Tensor) and not name.endswith("_extra_state"):
        raise WeightsError(
            f"expected a tensor for {name!r}; got a {type(value).__name__}; pass what "
            "model.state_dict() returns"
        )
    return value


def _without_wrappers(state: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Drop what ``DataParallel`` and ``torch.compile`` put before every name."""
    own = set(module.state_dict())
    for prefix in _WRAPPERS:
        if not own & set(state) and state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
