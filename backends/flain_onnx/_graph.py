"""Knows which node of a graph makes and reads which value, bodies of If and Loop included."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

from onnx import ModelProto, NodeProto, TensorProto

from ._functions import inlined
from ._order import sorted_nodes
from ._walk import bodies

_READ_NO_NUMBERS = ("Shape", "Size")


class Graph:
    """The top level of a model's graph, with its local functions inlined.

    Names are unique and nodes sorted, as ONNX demands. The ``producer`` of a value is the position
    of the node that makes it, ``readers`` are those that read it; ``uses`` counts how often its
    numbers are read, as an output too. The ``writable`` tensors are those stored outside functions.

    Raises:
        ModelError: Nodes read each other in a circle, in a body too, or functions call themselves.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = inlined(model)
        self.writable = {each.name for each in model.graph.initializer}
        self.writable.update(constants(model.graph.node))
        graph = self.model.graph
        self.nodes, self.reads = _sorted(list(graph.node))
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        # Initializers may be listed as inputs, but need not be fed.
        sparse = {tensor.values.name for tensor in graph.sparse_initializer}
        self.inputs = {
            each.name: each
            for each in graph.input
            if each.name not in self.initializers and each.name not in sparse
        }
        self.tensors = {**self.initializers, **constants(self.nodes)}
        self.producer = {
            name: index for index, node in enumerate(self.nodes) for name in node.output if name
        }
        self.readers: dict[str, list[int]] = defaultdict(list)
        for index, reads in enumerate(self.reads):
            for name in dict.fromkeys(reads):
                self.readers[name].append(index)
        self.uses = Counter(
            name
            for node, reads in zip(self.nodes, self.reads, strict=True)
            if node.op_type not in _READ_NO_NUMBERS
            for name in reads
        )
        self.uses.update(output.name for output in graph.output)
        self.fed = self.depending_on(self.inputs)

    def depending_on(self, values: Iterable[str]) -> set[str]:
        """Return the values themselves and all that is computed from them."""
        reached = set(values)
        for node, reads in zip(self.nodes, self.reads, strict=True):
            if not reached.isdisjoint(reads):
                reached.update(name for name in node.output if name)
        return reached

    def needed(self, values: Iterable[str], given: Collection[str]) -> list[int]:
        """Return the sorted positions of the nodes that compute ``values`` from what is given."""
        found: set[int] = set()
        open_values = [name for name in values if name not in given]
        while open_values:
            index = self.producer.get(open_values.pop())
            if index is not None and index not in found:
                found.add(index)
                open_values += [name for name in self.reads[index] if name not in given]
        return sorted(found)

    def leading_to(self, value: str) -> set[str]:
        """Return the value itself and all that it is computed from."""
        needed = self.needed([value], ())
        return {value}.union(*(self.reads[index] for index in needed))

    def branch_by_branch(self) -> list[NodeProto]:
        """Return the nodes in the order of a walk from the outputs back along the inputs.

        Each comes after what it reads. Exporters list parallel branches as they please, of the same
        network one way today and another tomorrow; this order depends on what is computed alone.
        """
        ordered: dict[int, None] = {}
        entered: set[int] = set()
        for output in self.model.graph.output:
            walk = [(index, self._ahead(index)) for index in self._producers([output.name])]
            while walk:
                index, ahead = walk[-1]
                entered.add(index)
                before = next((each for each in ahead if each not in entered), None)
                if before is not None:
                    walk.append((before, self._ahead(before)))
                else:
                    ordered.setdefault(index)
                    walk.pop()
        rest = (index for index in range(len(self.nodes)) if index not in ordered)
        return [self.nodes[index] for index in (*ordered, *rest)]

    def _ahead(self, index: int) -> Iterator[int]:
        return self._producers(self.reads[index])

    def _producers(self, values: Iterable[str]) -> Iterator[int]:
        return (self.producer[name] for name in values if name in self.producer)


def _sorted(nodes: list[NodeProto]) -> tuple[list[NodeProto], list[tuple[str, ...]]]:
    """Sort the nodes of a graph, and return what each reads; the bodies can be sorted, too."""
    for node in nodes:
        for body in bodies(node):
            _sorted(list(body.node))
    reads = [tuple(_values_read(node)) for node in nodes]
    order = sorted_nodes(nodes, reads)
    return [nodes[index] for index in order], [reads[index] for index in order]


def _values_read(node: NodeProto) -> Iterator[str]:
    """Yield the inputs of a node, and what its bodies capture from outside."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        own = {each.name for each in (*body.initializer, *body.input)}
        own.update(name for inner in body.node for name in inner.output)
        own.update(tensor.values.name for tensor in body.sparse_initializer)
        for inner in body.node:
            yield from (name for name in _values_read(inner) if name not in own)
        yield from (output.name for output in body.output if output.name not in own)


def constants(nodes: Iterable[NodeProto]) -> dict[str, TensorProto]:
    """Return the tensors of ``Constant`` nodes by the names of their values."""
    return {
        node.output[0]: attribute.t
        for node in nodes
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
