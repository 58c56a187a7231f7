"""Telling which recorded operations treat every row of a matrix by itself.

Only what is known is taken: some kernels read beyond a tensor that is shorter than the one they
were recorded with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ._replay import Slot, Step, found_in

_ATEN = torch.ops.aten


def _known(*names: str, overload: str = "default") -> set[Any]:
    """Return the operations of these names, and those that work in place."""
    packets = (getattr(_ATEN, name + end, None) for name in names for end in ("", "_"))
    return {getattr(packet, overload) for packet in packets if overload in dir(packet)}


_OF_ONE_NUMBER = _known(
    *("relu", "gelu", "silu", "mish", "elu", "leaky_relu", "hardtanh", "hardswish"),
    *("hardsigmoid", "softplus", "tanh", "sigmoid", "exp", "neg", "abs", "clamp", "clamp_min"),
    *("detach", "alias", "clone", "_to_copy"),
)
_OF_TWO_NUMBERS = _known("add", "sub", "mul", "div", overload="Tensor")
_ALONG_ROWS = _known("_softmax", "_log_softmax")


def row_by_row(steps: Iterable[Step]) -> bool:
    """Whether each step on matrices gives a matrix whose rows depend on the same rows alone."""
    return all(map(_is_row_by_row, steps))


def _is_row_by_row(step: Step) -> bool:
    operation, args = step.operation, step.args
    if operation in _OF_TWO_NUMBERS:
        return all(isinstance(each, Slot) or _is_of_no_rows(each) for each in args)
    if operation is _ATEN.addmm.default:
        return _is_of_no_rows(args[0]) and isinstance(args[1], Slot) and isinstance(args[2], Tensor)
    if operation is _ATEN.mm.default:
        return isinstance(args[0], Slot) and isinstance(args[1], Tensor)
    if operation is _ATEN.native_layer_norm.default:
        return isinstance(args[0], Slot) and len(args[1]) == 1
    if operation is _ATEN.native_batch_norm.default:
        training = args[5]
        return isinstance(args[0], Slot) and not training and all(map(_is_of_no_rows, args[1:]))
    others = (args[1:], list(step.kwargs.values()))
    alone = isinstance(args[0], Slot) and not [*found_in(others, Slot | Tensor)]
    if operation in _ALONG_ROWS:
        return alone and args[1] in (1, -1)
    return alone and operation in _OF_ONE_NUMBER


def _is_of_no_rows(value: Any) -> bool:
    """Whether it is a number, or a tensor that is the same for every row."""
    return not isinstance(value, Slot) and (not isinstance(value, Tensor) or value.dim() <= 1)
