"""A network as a straight line of steps, in which a skip connection is just a second reader."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flain_core.errors import ModelError
from flain_core.network import Array

from ._arrays import shape_text

Operation: TypeAlias = Callable[..., Array]
"""A pure function from array to array. Any will do; only this package's own can be saved."""


@dataclass(frozen=True, eq=False)
class Residual:
    """Adds a branch and a shortcut that start from the same value.

    Attributes:
        branch: The operations of the branch, in order.
        shortcut: The operations of the shortcut, in order; none for the identity.

    >>> import numpy as np
    >>> from flain_numpy import Dense, Network, ReLU
    >>> block = Residual([Dense("fc1", np.array([[1.0, 1.0], [0.0, -1.0]])), ReLU()])
    >>> Network([block]).predict(np.array([[2.0, 3.0]]))
    array([[7., 3.]])
    """

    branch: Sequence[Operation | Residual]
    shortcut: Sequence[Operation | Residual] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "branch", tuple(self.branch))
        object.__setattr__(self, "shortcut", tuple(self.shortcut))


@dataclass(frozen=True, eq=False)
class Step:
    """One operation and the values it reads: value 0 is the input, value i + 1 that of step i."""

    operation: Operation
    reads: tuple[int, ...]


Program: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class _Sum:
    def __call__(self, branch: Array, shortcut: Array) -> Array:
        # NumPy would broadcast a wrong shortcut without a word.
        if branch.shape != shortcut.shape:
            raise ValueError(
                f"expected branch and shortcut of one shape; got {branch.shape} and "
                f"{shortcut.shape}"
            )
        return branch + shortcut


def program_of(operations: Iterable[Operation | Residual]) -> Program:
    """Return the steps that ``operations`` consist of.

    >>> [step.reads for step in program_of([abs, Residual([abs, abs])])]
    [(0,), (1,), (2,), (3, 1)]
    """
    steps: list[Step] = []
    _append(steps, operations, 0)
    return tuple(steps)


def _append(steps: list[Step], operations: Iterable[Operation | Residual], value: int) -> int:
    for operation in operations:
        if isinstance(operation, Residual):
            branch = _append(steps, operation.branch, value)
            steps.append(Step(_Sum(), (branch, _append(steps, operation.shortcut, value))))
        elif callable(operation) and not isinstance(operation, type):
            steps.append(Step(operation, (value,)))
        else:
            raise ModelError(f"expected operations such as Dense(...) or ReLU(); got {operation!r}")
        value = len(steps)
    return value


def mapped(operations: Iterable[Any], change: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Return what ``change`` makes of each operation, also inside each :class:`Residual`.

    >>> mapped([len, Residual([abs, len])], {len: 1, abs: 2}.get)
    (1, Residual(branch=(2, 1), shortcut=()))
    """
    return tuple(
        Residual(mapped(each.branch, change), mapped(each.shortcut, change))
        if isinstance(each, Residual)
        else change(each)
        for each in operations
    )


def depending(program: Program, value: int) -> list[int]:
    """Return the steps whose result changes with ``value``, in order.

    >>> depending(program_of([Residual([abs, abs], shortcut=[abs])]), 1)
    [1, 3]
    """
    changed = {value}
    steps = []
    for index, step in enumerate(program):
        if changed.intersection(step.reads):
            changed.add(index + 1)
            steps.append(index)
    return steps


def run(
    program: Program, steps: Sequence[int], values: Mapping[int, Array], keep: Collection[int]
) -> dict[int, Array]:
    """Run some steps, given the values that they read and do not compute; return those to ``keep``.

    Other values are freed after the last step that reads them.
    """
    known = dict(values)
    last_reader = {value: index for index in steps for value in program[index].reads}
    for index in steps:
        operation, reads = program[index].operation, program[index].reads
        given = [known[value] for value in reads]
        try:
            known[index + 1] = operation(*given)
        except ValueError as error:
            shapes = " and ".join(shape_text(value.shape) for value in given)
            raise ModelError(
                f"{operation!r} cannot run on {shapes}: {error}; check the shape of the samples"
            ) from error
        for value in set(reads):
            if last_reader[value] == index and value not in keep:
                del known[value]
    return {value: known[value] for value in keep}
