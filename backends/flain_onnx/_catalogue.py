"""The fully connected and convolutional layers of a graph, found by what they compute."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from ._forms import DenseForm, Form, form_of
from ._graph import Graph
from ._names import layer_names
from ._refusals import refusal
from ._stored import Stored, stored_behind

__all__ = ["Entry", "catalogue"]


@dataclass(frozen=True, eq=False)
class Entry:
    """A layer.

    Attributes:
        name: Unique in the model.
        node: What computes it.
        form: How it lays things out.
        stored: Its weight.
        shape: ``(out, in / groups, *kernel)``.
        refusal: Why it cannot be purified; None if it can.
    """

    name: str
    node: NodeProto
    form: Form
    stored: Stored
    shape: tuple[int, ...]
    refusal: str | None

    @property
    def data(self) -> str:
        """The name of the value that enters the layer."""
        return str(self.node.input[1 - self.form.weight_at])

    @property
    def output(self) -> str:
        """The name of its pre-activation. A bias that is added by a node of its own comes later."""
        return str(self.node.output[0])


def catalogue(graph: Graph, scores: str) -> dict[str, Entry]:
    """Every layer by name, branch by branch; layers in bodies of If and Loop are not."""
    found = [
        (node, form, stored)
        for node in graph.branch_by_branch()
        for weight_at in (1, 0)
        if len(node.input) > 1 and node.input[1 - weight_at] in graph.fed
        if (form := form_of(node, weight_at)) is not None
        if (stored := stored_behind(graph, node.input[weight_at])) is not None
        if len(stored.shape) > 1 and 0 not in stored.shape
    ]
    names = layer_names((node, stored.name) for node, _, stored in found)
    return {
        name: _entry(graph, scores, name, node, form, stored)
        for name, (node, form, stored) in zip(names, found, strict=True)
    }


def _entry(
    graph: Graph, scores: str, name: str, node: NodeProto, form: Form, stored: Stored
) -> Entry:
    shape = stored.shape
    if isinstance(form, DenseForm):
        if len(shape) > 2:
            stack = f"its weight is a stack of matrices {shape}; a layer has one"
            return Entry(name, node, form, stored, shape, stack)
        shape = shape[::-1] if form.transposed else shape
    elif form.transposed:
        shape = (shape[1] * form.groups, shape[0] // form.groups, *shape[2:])
    reason = refusal(node, stored)
    if reason is None and scores not in graph.depending_on([node.output[0]]):
        reason = f"the scores {scores!r} do not depend on it"
    return Entry(name, node, form, stored, shape, reason)
