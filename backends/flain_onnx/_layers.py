"""Finds the layers of a graph by what they compute, and says why some cannot be purified."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from onnx import GraphProto, NodeProto, TensorProto

from flain_core.backend_kit import RECURRENT

from ._biases import Bias, bias_of
from ._forms import DenseForm, Form, form_of
from ._graph import Graph, constants
from ._model import FLOATS
from ._names import layer_names
from ._stored import FOLLOWED, Stored, stored_behind
from ._walk import bodies

_RECURRENT = ("GRU", "LSTM", "RNN")
_OF_ONNXRUNTIME = "com.microsoft"
_FOLDED_BY_RULE = "pkg.onnxscript.rewriter.rule_name"
_FOLDED_BY_TRACING = re.compile(r"^onnx::Conv(Transpose)?_\d+$")
_FOLDED_BY_TENSORFLOW = "merged_input"


@dataclass(frozen=True, eq=False)
class Entry:
    """A layer: the node that computes it, its stored weight, and its stored bias if it has one."""

    node: NodeProto
    form: Form
    stored: Stored
    shape: tuple[int, ...]
    """``(out, in / groups, *kernel)``."""
    refusal: str | None
    """Why it cannot be purified; None if it can."""
    bias: Bias | None

    @property
    def work(self) -> tuple[object, ...]:
        """Description of what the layer does, the same in every export."""
        return self.form.family, self.shape, self.form.groups

    @property
    def data(self) -> str:
        """The name of the value that enters the layer."""
        return str(self.node.input[1 - self.form.weight_at])

    @property
    def output(self) -> str:
        """The name of its pre-activation; with the bias, unless that is added to it rearranged."""
        return self.node.output[0] if self.bias is None else self.bias.output


def catalogue(graph: Graph, scores: str) -> dict[str, Entry]:
    """Return every layer outside bodies of If and Loop by name, branch by branch."""
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
    used = graph.leading_to(scores)
    return {
        name: _entry(graph, node, form, stored, unused=node.output[0] not in used, scores=scores)
        for name, (node, form, stored) in zip(names, found, strict=True)
    }


def _entry(
    graph: Graph, node: NodeProto, form: Form, stored: Stored, *, unused: bool, scores: str
) -> Entry:
    shape, reason = stored.shape, _refusal(node, stored)
    if isinstance(form, DenseForm) and len(shape) > 2:
        reason = f"its weight is a stack of matrices {shape}; a layer has one"
    elif isinstance(form, DenseForm):
        shape = shape[::-1] if form.transposed else shape
    elif form.transposed:
        ins, outs, *kernel = shape
        shape = (outs * form.groups, ins // form.groups, *kernel)
    if reason is None and unused:
        reason = f"the scores {scores!r} do not depend on it"
    return Entry(
        node, form, stored, shape, reason, bias_of(graph, node, form, shape, stored.element)
    )


def refused_in_bodies(graph: Graph, taken: Collection[str]) -> dict[str, str]:
    """Return why the layers in bodies are refused, by names that are not yet taken."""
    made = {name: graph.nodes[index] for name, index in graph.producer.items()}
    found = [
        (owner.op_type, layer, weight)
        for owner in graph.nodes
        for body in bodies(owner)
        for layer, weight in _inside(body, graph.tensors, made)
    ]
    names = layer_names(((layer, weight) for _, layer, weight in found), taken)
    return {
        name: f"it is in a body of the operator {operator}, which may run it several times or "
        "never; export the model without control flow around it"
        for name, (operator, *_) in zip(names, found, strict=True)
    }


def refused_fused(graph: Graph, taken: Collection[str]) -> dict[str, str]:
    """Return why the layers that onnxruntime fused are refused, by names that are not yet taken."""
    made = {name: graph.nodes[index] for name, index in graph.producer.items()}
    found: list[tuple[NodeProto, str]] = []
    for node in graph.nodes:
        if node.domain.startswith(_OF_ONNXRUNTIME):
            read = [_stored_name(name, graph.tensors, made) for name in node.input]
            stored = [name for name in read if name in graph.tensors]
            weights = [name for name in stored if len(graph.tensors[name].dims) > 1]
            found += [(node, name) for name in weights[:1]]
    names = layer_names(found, taken)
    return {
        name: f"onnxruntime fused it into the operator {node.op_type} of {node.domain} when it "
        "optimised the model; give both models as they were exported, and optimise the result"
        for name, (node, _) in zip(names, found, strict=True)
    }


def refused_recurrent(graph: Graph, taken: Collection[str]) -> dict[str, str]:
    """Return why recurrent layers are refused, by names that are not yet taken."""
    made = {name: graph.nodes[index] for name, index in graph.producer.items()}
    found = [
        (node, _stored_name(node.input[1], graph.tensors, made))
        for node in graph.nodes
        if node.op_type in _RECURRENT and node.domain in ("", "ai.onnx") and len(node.input) > 1
    ]
    return dict.fromkeys(layer_names(found, taken), RECURRENT)


def _inside(
    body: GraphProto, tensors: Mapping[str, TensorProto], made: Mapping[str, NodeProto]
) -> Iterator[tuple[NodeProto, str]]:
    """Yield the layers of a body, and of bodies in it, with the names of their stored weights.

    Outside the body are stored ``tensors`` by name, and nodes by the names of what they ``made``.
    """
    own = {tensor.name: tensor for tensor in body.initializer}
    tensors = {**tensors, **own, **constants(body.node)}
    made = {**made, **{name: node for node in body.node for name in node.output}}
    for node in body.node:
        read = [_stored_name(name, tensors, made) for name in node.input[:2]]
        weights = [name for name in read if name in tensors]
        if len(read) == 2 and len(weights) == 1:
            (weight,) = weights
            if form_of(node, read.index(weight)) and len(tensors[weight].dims) > 1:
                yield node, weight
        for inner in bodies(node):
            yield from _inside(inner, tensors, made)


def _stored_name(
    name: str, tensors: Mapping[str, TensorProto], made: Mapping[str, NodeProto]
) -> str:
    seen = set[str]()
    # A body may call a value as the graph around it does, and so lead back to where we were.
    while name not in tensors and name not in seen and name in made:
        if made[name].op_type not in FOLLOWED:
            break
        seen.add(name)
        name = made[name].input[0]
    return name


def _refusal(node: NodeProto, stored: Stored) -> str | None:
    """Return why the layer of a node with a stored weight is refused; None if it is not."""
    if TensorProto.BFLOAT16 in (stored.tensor.data_type, stored.element):
        return (
            "it computes in bfloat16, which onnxruntime cannot multiply on a CPU; "
            "export the model in float32 or float16"
        )
    if stored.tensor.data_type not in FLOATS or stored.element not in FLOATS:
        kept, computed = stored.tensor.data_type, stored.element
        name = _element_name(kept if kept not in FLOATS else computed)
        return f"its weight is stored as {name}; export the model in float32 or float16"
    if stored.shared:
        return (
            f"its weight {stored.name!r} is used elsewhere in the model too, so a change would "
            "reach further than this layer"
        )
    if _folded(node, stored):
        return (
            "the exporter folded a batch normalization into it, so its weight is not the one that "
            "was trained; export both models unfolded: torch.onnx.export(..., optimize=False), or "
            "with dynamo=False: training=TrainingMode.PRESERVE, do_constant_folding=False"
        )
    return None


def _element_name(element: int) -> str:
    known = TensorProto.DataType.items()
    return next((name for name, number in known if number == element), f"type {element}")


def _folded(node: NodeProto, stored: Stored) -> bool:
    rules = [entry.value for entry in node.metadata_props if entry.key == _FOLDED_BY_RULE]
    # A weight that was only transposed is renamed, too; but folding makes a bias as well.
    made = (stored.name, *node.input[2:])
    return (
        any("FuseBatchNorm" in rule for rule in rules)
        or (len(made) > 1 and all(map(_FOLDED_BY_TRACING.match, made)))
        or _FOLDED_BY_TENSORFLOW in stored.name
    )
