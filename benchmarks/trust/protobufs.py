"""Mutates ONNX models field by field: names, sizes, types, nodes, bodies, functions, places."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

_INTS = (-1, 0, 1, 2, 3, 7, 999, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
_TEXTS = ("", "\0", "../outside", "/etc/hostname", "a" * 5000, "\x1b[2J", "n", "x", "scores", "ü")
_OPERATORS = (
    *("Identity", "Transpose", "Cast", "Reshape", "Loop", "If", "Scan", "Gemm", "MatMul", "Conv"),
    *("ConvTranspose", "BatchNormalization", "Flatten", "Constant", "ConstantOfShape", "Expand"),
    *("Tile", "Pad", "Range", "Gather", "Resize", "Softmax", "Concat", "Split", "Shape", "Einsum"),
    *("LSTM", "NonZero", "OneHot", "MaxPool", "AveragePool", "StringNormalizer", "RandomNormal"),
    *("FusedGemm", "QLinearMatMul", "ZipMap", "SequenceConstruct", "Slice", "Squeeze", "TopK"),
)


def mutated(rng: Random, content: bytes) -> bytes:
    """Return a model with one to four changes."""
    model = ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_CHANGES)(rng, model)
    return bytes(model.SerializeToString())


def external(rng: Random, content: bytes) -> bytes:
    """Return a model whose external tensors lie elsewhere."""
    model = ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 3))):
        tensors = [each for each in model.graph.initializer if each.external_data]
        if not tensors or rng.random() < 0.2:
            rng.choice(_CHANGES)(rng, model)
            continue
        tensor = rng.choice(tensors)
        entry = rng.choice(tensor.external_data)
        how = rng.random()
        if how < 0.7:
            entry.value = rng.choice(_PLACES if entry.key == "location" else _OFFSETS)
        elif how < 0.8:
            entry.key = rng.choice(("location", "offset", "length", "checksum", "basepath", ""))
        elif how < 0.9:
            tensor.external_data.add(key="location", value=rng.choice(_PLACES))
        else:
            tensor.dims.append(rng.choice(_INTS))
    return bytes(model.SerializeToString())


_PLACES = (
    *("", ".", "..", "../outside", "/etc/hostname", "m.data/x", "m.data\0", "a" * 5000, "loop"),
    *(
        "./m.data",
        "x/../m.data",
        "m.onnx",
        "folder",
        "pipe",
        "~/x",
        "m.data/../../outside",
        "\ud7ff",
    ),
    *("*/_ORT_MEM_ADDR_/*", "link", "C:\\x", "file:///etc/hostname", "/proc/self/mem", "/dev/zero"),
)
_OFFSETS = ("-1", "0", "1", "72", "9" * 30, "x", "", "1e3", "٣", " 4 ", str(2**63), "4096", "0x10")


def _field(rng: Random, model: ModelProto) -> None:
    """Change any field anywhere."""
    message = rng.choice(_messages(model))
    fields = [field for field, _ in message.ListFields()]
    if rng.random() < 0.2 or not fields:
        fields = list(message.DESCRIPTOR.fields)
    field = rng.choice(fields)
    many = (
        field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
    )
    value = getattr(message, field.name)
    if field.message_type is not None:
        if many and len(value):
            _of_many(rng, value)
        elif rng.random() < 0.5:
            message.ClearField(field.name)
        elif not many:
            value.SetInParent()
        return
    single = _single(rng, field)
    if not many:
        setattr(message, field.name, single)
    elif len(value) and rng.random() < 0.6:
        value[rng.randrange(len(value))] = single
    elif len(value) and rng.random() < 0.5:
        del value[rng.randrange(len(value))]
    else:
        value.extend([single] * rng.choice((1, 2, 9)))


def _of_many(rng: Random, value: Any) -> None:
    index = rng.randrange(len(value))
    how = rng.random()
    if how < 0.35:
        del value[index]
    elif how < 0.7:
        value.add().CopyFrom(value[index])
    else:
        value[index].CopyFrom(value[rng.randrange(len(value))])


def _single(rng: Random, field: Any) -> Any:
    kind = field.cpp_type
    if kind in (field.CPPTYPE_STRING,):
        told = rng.choice((*_TEXTS, *_OPERATORS))
        return told.encode() if field.type == field.TYPE_BYTES else told
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    if kind == field.CPPTYPE_ENUM:
        return rng.choice([each.number for each in field.enum_type.values])
    bits = 32 if kind in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    signed = kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return max(low, min(high, rng.choice(_INTS)))


def _messages(message: Any) -> list[Any]:
    found, left = [], [message]
    while left:
        each = left.pop()
        found.append(each)
        for field, value in each.ListFields():
            if field.message_type is None:
                continue
            left.extend([value] if hasattr(value, "ListFields") else value)
    return found


def _names(model: ModelProto) -> list[str]:
    graph = model.graph
    nodes = [name for node in graph.node for name in (*node.input, *node.output)]
    return [*nodes, *(each.name for each in graph.initializer), "x", "nothing"]


def _wiring(rng: Random, model: ModelProto) -> None:
    """Let a node read or give another value, so that circles and gaps arise."""
    nodes = list(model.graph.node)
    if nodes:
        node = rng.choice(nodes)
        ends = rng.choice((node.input, node.output))
        if len(ends):
            ends[rng.randrange(len(ends))] = rng.choice(_names(model))


def _operator(rng: Random, model: ModelProto) -> None:
    if model.graph.node:
        rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _sizes(rng: Random, model: ModelProto) -> None:
    dims = [tensor.dims for tensor in model.graph.initializer]
    for each in (*model.graph.input, *model.graph.output):
        for dim in each.type.tensor_type.shape.dim:
            if rng.random() < 0.4:
                dim.dim_value = rng.choice(_INTS)
    if dims and rng.random() < 0.6:
        chosen = rng.choice(dims)
        if len(chosen):
            chosen[rng.randrange(len(chosen))] = rng.choice(_INTS)


def _attribute(rng: Random, model: ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    attribute = rng.choice(rng.choice(nodes).attribute)
    if attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(_INTS)
    elif attribute.type == AttributeProto.INTS:
        attribute.ints[:] = [rng.choice(_INTS) for _ in range(rng.choice((0, 1, 2, 4, 300)))]
    elif attribute.type == AttributeProto.GRAPH:
        deep = attribute.g
        for _ in range(rng.choice((1, 10, 25))):
            deep = _nested(deep)
        attribute.g.CopyFrom(deep)
    else:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())


def _nested(body: GraphProto) -> GraphProto:
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    choice = helper.make_node("If", ["cond"], ["inner"], then_branch=body, else_branch=body)
    graph = helper.make_graph([choice], "nested", [], [out])
    # Two copies in each would be as many bodies as a tree has leaves.
    choice = graph.node[0]
    choice.attribute[1].g.Clear()
    choice.attribute[1].g.CopyFrom(helper.make_graph([], "none", [], [out]))
    return graph


def _between(rng: Random, model: ModelProto) -> None:
    """Put a node between a weight and what reads it, or between two nodes."""
    nodes = list(model.graph.node)
    if not nodes:
        return
    reader = rng.choice(nodes)
    if not len(reader.input):
        return
    at = rng.randrange(len(reader.input))
    name, fresh = reader.input[at], f"between{rng.randrange(100)}"
    operator = rng.choice(_OPERATORS)
    options: dict[str, Any] = {}
    if operator == "Transpose":
        options["perm"] = rng.choice(([1, 0], [0], [0, 5], [-1, 0], [0, 0], [3, 2, 1, 0]))
    elif operator == "Cast":
        options["to"] = rng.choice((1, 10, 11, 7, 8, 16, 999, -1))
    reader.input[at] = fresh
    node = helper.make_node(operator, [name], [fresh], **options)
    model.graph.node.insert(rng.randrange(len(nodes) + 1), node)


def _recipe(rng: Random, model: ModelProto) -> None:
    """Put in one of the things that have been harmful before."""
    rng.choice((_loop, _calling, _large, _tensor))(rng, model)


def _loop(rng: Random, model: ModelProto) -> None:
    info = helper.make_tensor_value_info
    grows = rng.choice(("Relu", "Relu", "Concat"))
    inputs = ["v0", "v0"] if grows == "Concat" else ["v0"]
    options: dict[str, Any] = {"axis": 0} if grows == "Concat" else {}
    inside = helper.make_graph(
        [
            helper.make_node("Identity", ["c0"], ["c1"]),
            helper.make_node(grows, inputs, ["v1"], **options),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("c0", TensorProto.BOOL, []),
            info("v0", TensorProto.FLOAT, None),
        ],
        [info("c1", TensorProto.BOOL, []), info("v1", TensorProto.FLOAT, None)],
    )
    rounds = np.array(rng.choice((0, 3, 40, 2**60)), np.int64)
    model.graph.initializer.append(numpy_helper.from_array(rounds, "rounds"))
    if model.graph.node:
        last = model.graph.node[-1]
        if len(last.input):
            value = last.input[0]
            last.input[0] = "looped"
            node = helper.make_node("Loop", ["rounds", "", value], ["looped"], body=inside)
            model.graph.node.insert(len(model.graph.node) - 1, node)


def _calling(rng: Random, model: ModelProto) -> None:
    """Functions that call each other, or themselves, many times."""
    number = rng.choice((1, 2, 8, 40))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.opset_import.append(helper.make_opsetid("own", 1))
    for index in range(number):
        called = rng.choice((f"F{index - 1}", f"F{index}", f"F{number - 1}", "Relu"))
        domain = "" if called == "Relu" else "own"
        twice = [
            helper.make_node(called, ["a"], ["b"], domain=domain),
            helper.make_node(called, ["b"], ["c"], domain=domain),
        ]
        model.functions.append(
            helper.make_function("own", f"F{index}", ["a"], ["c"], twice, opsets)
        )
    nodes = [node for node in model.graph.node if len(node.input) == 1]
    if nodes:
        node: NodeProto = rng.choice(nodes)
        node.op_type, node.domain = f"F{number - 1}", "own"
        del node.attribute[:]


def _large(rng: Random, model: ModelProto) -> None:
    """Let a small model ask for a large tensor when it runs."""
    size = rng.choice((10**4, 10**5, 2**20))
    shape = np.array([size, rng.choice((10, size))], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(shape, "large.shape"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["large.shape"], ["large"]))
    nodes = [node for node in model.graph.node if len(node.input) > 1]
    if nodes:
        rng.choice(nodes).input[1] = "large"


def _tensor(rng: Random, model: ModelProto) -> None:
    """Keep the numbers of a tensor in another field, or fewer of them, or sparsely."""
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    how = rng.random()
    if how < 0.3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif how < 0.5:
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * rng.choice((0, 1, 18, 54)))
    elif how < 0.7:
        tensor.data_type = rng.choice((0, 6, 7, 8, 10, 11, 16, 17, 21, 22, 24, 999, -1))
    elif how < 0.85:
        tensor.data_location = rng.choice((0, 1))
    else:
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
        sparse.dims.extend([rng.choice(_INTS), rng.choice(_INTS)])


_CHANGES: tuple[Callable[[Random, ModelProto], None], ...] = (
    *(_field, _field, _field, _field, _wiring, _wiring, _operator, _sizes, _sizes),
    *(_attribute, _between, _between, _recipe),
)
