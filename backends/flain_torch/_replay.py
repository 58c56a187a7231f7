"""Repeats recorded steps on another tensor; on any number of rows where each is by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """Stands in the arguments of a step for a tensor that each replay computes anew."""

    index: int


@dataclass(eq=False)
class Step:
    """One operation; its arguments hold a :class:`Slot` here and there, also inside lists."""

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    reads: Sequence[int] = ()
    writes: Sequence[int] = ()
    outputs: Sequence[int] = ()
    """The slots for the tensors in the result, in order."""
    finished: Sequence[int] = ()
    """The slots that no later step reads, so that their memory can be reused."""

    def perform(self, slots: list[Any]) -> None:
        args = _filled(self.args, slots)
        kwargs = {name: _filled(value, slots) for name, value in self.kwargs.items()}
        result = self.operation(*args, **kwargs)
        for slot, tensor in zip(self.outputs, found_in(result, Tensor), strict=True):
            slots[slot] = tensor
        for slot in self.finished:
            slots[slot] = None


class Replay:
    """Computes the goal from any tensor in place of the origin, the same way every time.

    The origin, which the steps were recorded from, becomes slot 0. The goal is the slot of the
    result, or the result itself where it does not depend on the origin. ``nbytes`` are held by the
    steps besides the parameters.
    """

    def __init__(
        self,
        origin: Tensor,
        steps: Sequence[Step],
        goal: Slot | Tensor,
        overwrites_origin: bool,
        nbytes: int = 0,
    ) -> None:
        self.nbytes = nbytes
        self._shape, self._stride = origin.shape, origin.stride()
        self._dtype, self._device = origin.dtype, origin.device
        self.steps, self._goal, self._overwrites_origin = steps, goal, overwrites_origin
        used_later = {goal.index} if isinstance(goal, Slot) else set()
        for step in reversed(steps):
            read = found_in((step.args, list(step.kwargs.values())), Slot)
            used = {*step.outputs, *(slot.index for slot in read)}
            step.finished = tuple(used - used_later)
            used_later |= used
        self._count = max(used_later, default=0) + 1

    def __call__(self, tensor: Tensor) -> Tensor:
        """Replay on ``tensor``, which is converted to the origin's type.

        It has the origin's shape; or another number of rows, if each step treats rows by itself.
        """
        slots: list[Any] = [None] * self._count
        slots[0] = self._as_origin(tensor)
        with torch.no_grad():
            for step in self.steps:
                step.perform(slots)
        result: Tensor = _filled(self._goal, slots)
        return result

    def _as_origin(self, tensor: Tensor) -> Tensor:
        alike = tensor.dtype == self._dtype and tensor.stride() == self._stride
        if alike and not self._overwrites_origin:
            return tensor
        if tensor.shape != self._shape:
            return tensor.to(self._device, self._dtype, copy=True)
        copied = torch.empty_strided(
            self._shape, self._stride, dtype=self._dtype, device=self._device
        )
        return copied.copy_(tensor)


def found_in(value: Any, kind: Any) -> Iterator[Any]:
    """Yield what is of a kind in nested tuples and lists, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from found_in(item, kind)


def _filled(value: Any, slots: Sequence[Any]) -> Any:
    kind = type(value)
    if kind is Slot:
        return slots[value.index]
    if kind is tuple or kind is list:
        return kind([_filled(item, slots) for item in value])
    return value


# Only operations that are known to treat every row by itself are taken: some kernels read beyond a
# tensor that is shorter than the one they were recorded with.
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
    """Return whether each row that a step on matrices gives depends on the same row alone."""
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
    """Return whether it is a number, or a tensor that is the same for every row."""
    return not isinstance(value, Slot) and (not isinstance(value, Tensor) or value.dim() <= 1)
