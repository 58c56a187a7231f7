"""Records what a module computes from one tensor on, so that it can be computed again.

A step is recorded if one of its operands depends on that tensor, and what depends on it is decided
by memory, not by object: views and in-place operations carry the dependence along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ._replay import Replay, Slot, Step, found_in

_WAYS_OUT = (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr)


@dataclass(eq=False)
class _Side:
    """An operand that does not depend on the tensor, in a step that is still being recorded."""

    value: Tensor


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operations inside its ``with`` block, from :meth:`start` on.

    Nobody writes to the memory of ``constant`` tensors, such as parameters. Other operands that do
    not depend on the tensor are copied: a later run of the model may overwrite them.
    """

    def __init__(self, constant: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._constant = {memory_of(tensor) for tensor in constant}
        self._recording = False
        self._steps: list[Step] = []
        self._slot_of: dict[int, int] = {}
        self._memory_of: list[int] = []
        self._dependent: dict[int, int] = {}
        self._sides: dict[int, list[_Side]] = {}
        # Keeps ids and addresses from being given to other tensors while they mean something here.
        self._alive: list[Tensor] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch imports its compiler, which takes seconds, to keep it out of this class.
        return False

    def start(self, tensor: Tensor) -> None:
        self._recording = True
        self._origin = tensor
        self._add_slot(tensor)

    def stop(self) -> None:
        """Give up: what was recorded cannot be repeated."""
        self._recording = False

    def replay(self, result: Tensor) -> Replay | None:
        """Return what leads from the tensor to ``result``, or None if it cannot be repeated."""
        if not self._recording:
            return None
        self._recording = False
        goal = self._operand(result, reads=[])
        for memory, sides in self._sides.items():
            if memory not in self._constant:
                for side in sides:
                    side.value = side.value.clone()
        steps = self._leading_to(goal) if isinstance(goal, Slot) else []
        for step in steps:
            step.args, step.kwargs = _final(step.args), _final(step.kwargs)
        overwrites_origin = any(self._memory_of[0] in self._memories(each.writes) for each in steps)
        held = found_in([(each.args, [*each.kwargs.values()]) for each in steps], Tensor)
        nbytes = sum(each.nbytes for each in held if memory_of(each) not in self._constant)
        return Replay(self._origin, steps, _final(goal), overwrites_origin, nbytes)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self._recording:
            return func(*args, **kwargs)
        written = [t for t in _written(func, args, kwargs) if not self.depends(t)]
        for side in (each for t in written for each in self._sides.pop(memory_of(t), [])):
            # It was recorded with the value that is about to be overwritten.
            side.value = side.value.clone()
        if not any(map(self.depends, found_in((args, list(kwargs.values())), Tensor))):
            return func(*args, **kwargs)
        hidden = any(memory_of(tensor) == id(tensor) for tensor in written)
        if hidden or _reads_values(func, args, self.depends):
            self.stop()
            return func(*args, **kwargs)
        for tensor in written:
            self._renew(tensor)
        return self._record(func, args, kwargs)

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        reads: list[int] = []
        operands, named = _mapped([args, kwargs], Tensor, lambda each: self._operand(each, reads))
        writes = [self._slot_of[id(tensor)] for tensor in _written(func, args, kwargs)]
        result = func(*args, **kwargs)
        outputs = [self._add_slot(tensor) for tensor in found_in(result, Tensor)]
        self._steps.append(Step(func, operands, named, reads, writes, outputs))
        return result

    def _operand(self, tensor: Tensor, reads: list[int]) -> Slot | _Side:
        memory = memory_of(tensor)
        if not self.depends(tensor):
            side = _Side(tensor)
            self._sides.setdefault(memory, []).append(side)
            return side
        if id(tensor) not in self._slot_of:
            self._alias(tensor, self._dependent[memory])
        reads.append(self._slot_of[id(tensor)])
        return Slot(self._slot_of[id(tensor)])

    def _add_slot(self, tensor: Tensor) -> int:
        if id(tensor) not in self._slot_of:
            self._slot_of[id(tensor)] = len(self._memory_of)
            self._memory_of.append(memory_of(tensor))
            self._dependent.setdefault(memory_of(tensor), self._slot_of[id(tensor)])
            self._alive.append(tensor)
        return self._slot_of[id(tensor)]

    def _alias(self, tensor: Tensor, base: int) -> None:
        """See the memory of slot ``base`` as ``tensor`` does, whose making was not recorded."""
        layout = (tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
        args, outputs = (Slot(base), *layout), [self._add_slot(tensor)]
        self._steps.append(Step(_seen_as, args, reads=[base], outputs=outputs))

    def _renew(self, tensor: Tensor) -> None:
        """Start every replay from a fresh copy of a side tensor that becomes dependent."""
        if not self.depends(tensor):
            whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            whole.set_(tensor.untyped_storage())
            args, outputs = (_Side(whole.clone()),), [self._add_slot(whole)]
            self._steps.append(Step(torch.clone, args, outputs=outputs))

    def depends(self, tensor: Tensor) -> bool:
        return memory_of(tensor) in self._dependent

    def _memories(self, slots: Iterable[int]) -> set[int]:
        return {self._memory_of[slot] for slot in slots}

    def _leading_to(self, goal: Slot) -> list[Step]:
        """Leave out the steps that ``goal`` does not need, judged by the memory they fill."""
        needed = self._memories([goal.index])
        kept = []
        for step in reversed(self._steps):
            if needed & self._memories([*step.outputs, *step.writes]):
                needed |= self._memories(step.reads)
                kept.append(step)
        return kept[::-1]


class Escapes(TorchFunctionMode):
    """Stops a tape inside its ``with`` block when values leave torch, where no tape can follow."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _WAYS_OUT and self._tape.depends(args[0]):
            self._tape.stop()
        return func(*args, **(kwargs or {}))


def memory_of(tensor: Tensor) -> int:
    """Return what identifies the memory behind a tensor; the tensor itself where it is hidden."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)


def _seen_as(
    base: Tensor, dtype: torch.dtype, shape: Sequence[int], stride: Sequence[int], offset: int
) -> Tensor:
    view = torch.empty(0, dtype=dtype, device=base.device)
    return view.set_(base.untyped_storage(), offset, tuple(shape), tuple(stride))


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Replace what is of a kind in nested tuples, lists and dicts."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(item, kind, change) for item in value)
    if isinstance(value, dict):
        return {name: _mapped(item, kind, change) for name, item in value.items()}
    return value


def _final(value: Any) -> Any:
    return _mapped(value, _Side, lambda side: side.value)


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for position, name in _written_arguments(func):
        yield from found_in(args[position] if position < len(args) else kwargs.get(name), Tensor)


@cache
def _written_arguments(func: Any) -> list[tuple[int, str]]:
    return [
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _reads_values(func: Any, args: Sequence[Any], depends: Callable[[Tensor], bool]) -> bool:
    """Return whether the values of dependent operands decide a Python number or a shape."""
    if torch.Tag.data_dependent_output in func.tags:
        return True
    if func is torch.ops.aten.index.Tensor:
        masks = (t for t in found_in(args[1], Tensor) if t.dtype in (torch.bool, torch.uint8))
        return any(depends(mask) for mask in masks)
    return torch.Tag.dynamic_output_shape in func.tags
