"""Sorts the nodes of a graph, so that every walk along them ends."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

from flain_core.errors import ModelError


def sorted_nodes(nodes: Sequence[NodeProto], reads: Sequence[Sequence[str]]) -> list[int]:
    """Return the positions of nodes such that each comes after what it reads.

    As they are, if they are sorted already, as ONNX demands; onnxruntime does not insist.

    Args:
        nodes: The nodes of one graph.
        reads: The values that each of them reads.

    Raises:
        ModelError: Two nodes make the same value, or nodes read each other in a circle.
    """
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in makers:
                raise ModelError(f"two nodes of the model make the value {name!r}; export it again")
            makers[name] = index
    before = [{makers[name] for name in names if name in makers} for names in reads]
    if all(max(each, default=-1) < index for index, each in enumerate(before)):
        return list(range(len(nodes)))
    readers: list[list[int]] = [[] for _ in nodes]
    for index, each in enumerate(before):
        for maker in each:
            readers[maker].append(index)
    waiting = [len(each) for each in before]
    order = [index for index, number in enumerate(waiting) if not number]
    # It grows while it is walked along.
    for index in order:
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                order.append(reader)
    if len(order) < len(nodes):
        stuck = next(index for index, number in enumerate(waiting) if number)
        raise ModelError(
            f"the nodes of the model read each other in a circle, the {nodes[stuck].op_type} that "
            f"makes {next(iter(nodes[stuck].output), '')!r} among them; export it again"
        )
    return order
