"""Writes local functions out, where that ends and gives no more than a machine can hold."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, NodeProto
from onnx.inliner import inline_local_functions

from flain_core.errors import ModelError
from flain_core.storage.limits import check_memory

from ._walk import all_nodes

_MOST_NODES = 500_000


def inlined(model: ModelProto) -> ModelProto:
    """Return the model with its local functions written out where they are called.

    A function that calls another twice, which calls another twice, and so on, is a few bytes that
    double with each.

    Raises:
        ModelError: A function calls itself, or what they would be written out to is too much.
    """
    if not model.functions:
        return model
    nodes, size = _Sizes(model).of(all_nodes(model.graph))
    if nodes > _MOST_NODES:
        raise ModelError(
            f"the model's local functions stand for {nodes:,} nodes; expected at most "
            f"{_MOST_NODES:,}"
        )
    held = model.ByteSize()
    what = "the model, with its local functions written out,"
    check_memory(size, size=held, what=what, error=ModelError)
    return inline_local_functions(model)


class _Sizes:
    """Count the nodes and bytes that calls stand for. Each function is looked at once."""

    def __init__(self, model: ModelProto) -> None:
        self._functions = {(each.domain, each.name): each for each in model.functions}
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self._open: set[tuple[str, str]] = set()

    def of(self, nodes: Iterable[NodeProto]) -> tuple[int, int]:
        count = size = 0
        for node in nodes:
            key = node.domain, node.op_type
            inner, held = self._of_function(key) if key in self._functions else (1, 0)
            count, size = count + inner, size + held
        return count, size

    def _of_function(self, key: tuple[str, str]) -> tuple[int, int]:
        if key in self._open:
            raise ModelError(f"the model's local function {key[1]!r} calls itself; export it again")
        if key not in self._known:
            function = self._functions[key]
            self._open.add(key)
            nodes, size = self.of(all_nodes(function))
            self._open.remove(key)
            self._known[key] = nodes, size + function.ByteSize()
        return self._known[key]
