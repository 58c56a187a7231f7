"""Loading weights into a module, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flain_core.errors import WeightsError

__all__ = ["load_state"]

_WRAPPERS = ("module.", "_orig_mod.")


def load_state(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load ``weights``, tensors or NumPy arrays by name, all of them and nothing else."""
    state = {}
    for name, value in weights.items():
        if not isinstance(name, str):
            raise WeightsError(f"expected weights by name; one of the names is {name!r}")
        state[name] = _tensor(name, value) if isinstance(value, np.ndarray) else value
        if isinstance(state[name], Tensor) and state[name].is_complex():
            raise WeightsError(f"expected real numbers for {name!r}; got {state[name].dtype}")
        if not isinstance(state[name], Tensor) and not name.endswith("_extra_state"):
            raise WeightsError(
                f"expected a tensor for {name!r}, not a {type(value).__name__}; "
                "pass what model.state_dict() returns"
            )
    try:
        module.load_state_dict(_without_wrappers(state, module))
    except Exception as error:
        raise WeightsError(
            f"the weights do not fit the {type(module).__name__}; "
            f"they must come from the same architecture: {error}"
        ) from error


def _tensor(name: str, array: Any) -> Tensor:
    try:
        return torch.tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"expected numbers for {name!r}; got {array.dtype}") from error


def _without_wrappers(state: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Drop what ``DataParallel`` and ``torch.compile`` put before every name."""
    own = set(module.state_dict())
    for prefix in _WRAPPERS:
        if not own & set(state) and state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
