"""Repeats recorded steps on another tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    """One operation.

    Attributes:
        operation: What to call.
        args: Its arguments, some of them a :class:`Slot`, also inside lists.
        kwargs: The same by name.
        outputs: The slots for the tensors in the result, in order.
        finished: The slots that no later step reads, so that their memory can be reused.
    """

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Sequence[int]
    finished: Sequence[int] = field(default=())

    def perform(self, slots: list[Any]) -> None:
        """Read and fill ``slots``, and free those that are finished."""
        args = _filled(self.args, slots)
        kwargs = {name: _filled(value, slots) for name, value in self.kwargs.items()}
        result = self.operation(*args, **kwargs)
        for slot, tensor in zip(self.outputs, found_in(result, Tensor), strict=True):
            slots[slot] = tensor
        for slot in self.finished:
            slots[slot] = None


class Replay:
    """Computes the goal from any tensor in place of the origin, the same way every time.

    Args:
        origin: The tensor that the steps were recorded from; it becomes slot 0.
        steps: What to do, in order.
        goal: The slot of the result, or the result itself where it does not depend on the origin.
        overwrites_origin: Whether a step works in place on the memory of the origin.
    """

    def __init__(
        self, origin: Tensor, steps: Sequence[Step], goal: Slot | Tensor, overwrites_origin: bool
    ) -> None:
        self._shape, self._stride = origin.shape, origin.stride()
        self._dtype, self._device = origin.dtype, origin.device
        self.steps = steps
        self._goal = goal
        self._overwrites_origin = overwrites_origin
        kept = {goal.index} if isinstance(goal, Slot) else set()
        self._count = _mark_finished(steps, kept) + 1

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


def _mark_finished(steps: Sequence[Step], kept: set[int]) -> int:
    """Tell every step which slots it is the last to use; return the highest slot."""
    seen = set(kept)
    for step in reversed(steps):
        read = found_in((step.args, list(step.kwargs.values())), Slot)
        used = {*step.outputs, *(slot.index for slot in read)}
        step.finished = tuple(used - seen)
        seen |= used
    return max(seen, default=0)
