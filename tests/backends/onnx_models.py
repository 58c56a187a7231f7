"""Odd but legal ONNX graphs, built by hand. No layer is square."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
node = helper.make_node

STRIDED = {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [2, 1]}
TRANSPOSED = {"group": 2, "strides": [2, 2], "output_padding": [1, 0]}


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def value(name: str, *shape: int | str, element: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    opset: int = 18,
    **tensors: np.ndarray,
) -> ModelProto:
    """A checked model; ``__`` in the names of tensors stands for a dot."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        outputs,
        [
            numpy_helper.from_array(array, name.replace("__", "."))
            for name, array in tensors.items()
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    checker.check_model(made)
    return made


def mlp(dtype: Any = np.float32, batch: int | str = "n") -> ModelProto:
    """6 → 9 → 5, as PyTorch exports it."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model(
        [
            node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["z"], transB=1),
            node("Relu", ["z"], ["a"]),
            node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["scores"], transB=1),
        ],
        [value("x", batch, 6, element=element)],
        [value("scores", batch, 5, element=element)],
        fc1__weight=numbers(9, 6, dtype=dtype),
        fc1__bias=numbers(9, dtype=dtype),
        fc2__weight=numbers(5, 9, dtype=dtype),
        fc2__bias=numbers(5, dtype=dtype),
    )


def gemm_scaled() -> ModelProto:
    """alpha, beta, and a weight that is not transposed."""
    return model(
        [
            node("Gemm", ["x", "fc1.weight", "c"], ["z"], alpha=0.5, beta=3.0),
            node("Relu", ["z"], ["a"]),
            node("MatMul", ["a", "head"], ["scores"]),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        fc1__weight=numbers(6, 9),
        c=numbers(1, 9),
        head=numbers(9, 5),
    )


def gemm_turned() -> ModelProto:
    """The samples are on the last axis on the way in, and on the left of a second Gemm."""
    return model(
        [
            node("Transpose", ["x"], ["xt"], perm=[1, 0]),
            node("Gemm", ["xt", "w1"], ["z"], transA=1, alpha=2.0),
            node("Relu", ["z"], ["a"]),
            node("Gemm", ["w2", "a"], ["y"], transA=1, transB=1, alpha=0.5),
            node("Transpose", ["y"], ["b"], perm=[1, 0]),
            node("Transpose", ["b"], ["bt"]),
            node("Gemm", ["w3", "bt"], ["s"]),
            node("Transpose", ["s"], ["scores"]),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 4)],
        w1=numbers(6, 9),
        w2=numbers(9, 5),
        w3=numbers(4, 5),
    )


def matmul_add() -> ModelProto:
    """Sequences, with the bias in a node of its own."""
    return model(
        [
            node("MatMul", ["x", "embed.weight"], ["z"], name="/embed/MatMul"),
            node("Add", ["z", "embed.bias"], ["b"]),
            node("Tanh", ["b"], ["a"]),
            node("MatMul", ["a", "onnx::MatMul_19"], ["p"], name="/project/MatMul"),
            node("ReduceMean", ["p", "one"], ["m"], keepdims=0),
            node("MatMul", ["m", "val_7"], ["scores"], name="node_MatMul_3"),
        ],
        [value("x", "n", 4, 6)],
        [value("scores", "n", 5)],
        embed__weight=numbers(6, 9),
        embed__bias=numbers(9),
        **{"onnx::MatMul_19": numbers(9, 7), "val_7": numbers(7, 5), "one": np.array([1])},
    )


def weight_left() -> ModelProto:
    """``W @ x`` with positions on the last axis."""
    return model(
        [
            node("MatMul", ["mix.weight", "x"], ["z"]),
            node("Relu", ["z"], ["a"]),
            node("ReduceMean", ["a", "two"], ["m"], keepdims=0),
            node("MatMul", ["m", "head.weight"], ["scores"]),
        ],
        [value("x", "n", 6, 4)],
        [value("scores", "n", 5)],
        mix__weight=numbers(9, 6),
        head__weight=numbers(9, 5),
        two=np.array([2]),
    )


def hidden_weights() -> ModelProto:
    """Weights behind Constant, Identity, Transpose and Cast."""
    constant = numpy_helper.from_array(numbers(9, 6, dtype=np.float16), "")
    return model(
        [
            node("Constant", [], ["k"], value=constant),
            node("Transpose", ["k"], ["kt"], perm=[1, 0]),
            node("Cast", ["kt"], ["w"], to=FLOAT),
            node("MatMul", ["x", "w"], ["z"], name="first/MatMul"),
            node("Relu", ["z"], ["a"]),
            node("Identity", ["second.weight"], ["i"]),
            node("Transpose", ["i"], ["it"]),
            node("Gemm", ["a", "it"], ["scores"]),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        second__weight=numbers(5, 9),
    )


def convolutions() -> ModelProto:
    """Grouped, strided, automatically padded, transposed with groups, and 1x1."""
    return model(
        [
            node(
                "Conv",
                ["x", "c1.weight", "c1.bias"],
                ["z1"],
                group=2,
                strides=[2, 1],
                pads=[1, 0, 1, 0],
                dilations=[2, 1],
            ),
            node("Relu", ["z1"], ["a1"]),
            node(
                "ConvTranspose",
                ["a1", "up.weight", "up.bias"],
                ["z2"],
                group=2,
                strides=[2, 2],
                output_padding=[1, 0],
            ),
            node("Relu", ["z2"], ["a2"]),
            node("Conv", ["a2", "same.weight"], ["z3"], auto_pad="SAME_UPPER"),
            node("Relu", ["z3"], ["a3"]),
            node("GlobalAveragePool", ["a3"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "fc.weight"], ["scores"], transB=1),
        ],
        [value("x", "n", 6, 7, 8)],
        [value("scores", "n", 5)],
        c1__weight=numbers(4, 3, 3, 2),
        c1__bias=numbers(4),
        up__weight=numbers(4, 5, 2, 3),
        up__bias=numbers(10),
        same__weight=numbers(7, 10, 3, 2),
        fc__weight=numbers(5, 7),
    )


def other_dimensions() -> ModelProto:
    """Convolutions of sequences and of volumes."""
    return model(
        [
            node("Conv", ["x", "line.weight"], ["z1"], pads=[1, 1]),
            node("Relu", ["z1"], ["a1"]),
            node("Reshape", ["a1", "shape"], ["v"]),
            node("ConvTranspose", ["v", "volume.weight"], ["z2"]),
            node("Relu", ["z2"], ["a2"]),
            node("GlobalMaxPool", ["a2"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("MatMul", ["f", "fc.weight"], ["scores"]),
        ],
        [value("x", "n", 3, 12)],
        [value("scores", "n", 5)],
        line__weight=numbers(4, 3, 3),
        shape=np.array([0, 4, 2, 2, 3]),
        volume__weight=numbers(4, 6, 2, 1, 2),
        fc__weight=numbers(6, 5),
    )


def residual() -> ModelProto:
    """Skip connections around both layers, and the input again at the end."""
    return model(
        [
            node("Gemm", ["x", "up.weight", "b"], ["z"], transB=1),
            node("Relu", ["z"], ["a"]),
            node("Gemm", ["a", "down.weight"], ["d"], transB=1),
            node("Add", ["d", "x"], ["r"]),
            node("Concat", ["r", "a"], ["both"], axis=1),
            node("Gemm", ["both", "head.weight"], ["h"], transB=1),
            node("ReduceSum", ["x", "one"], ["t"], keepdims=1),
            node("Add", ["h", "t"], ["scores"]),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        up__weight=numbers(9, 6),
        b=numbers(9),
        down__weight=numbers(6, 9),
        head__weight=numbers(5, 15),
        one=np.array([1]),
    )


def captured() -> ModelProto:
    """The branches of an If read the layer's output, a side value and the input from outside."""

    def branch(name: str, *nodes: NodeProto) -> Any:
        return helper.make_graph(nodes, name, [], [value(f"{name}_out", "n", 9)])

    return model(
        [
            node("Gemm", ["x", "fc1.weight"], ["z"], transB=1),
            node("Relu", ["x"], ["side"]),
            node("Gemm", ["side", "other.weight"], ["wide"], transB=1),
            node("ReduceSum", ["x"], ["total"], keepdims=0),
            node("Less", ["total", "large"], ["condition"]),
            node(
                "If",
                ["condition"],
                ["y"],
                then_branch=branch(
                    "t", node("Relu", ["z"], ["tz"]), node("Add", ["tz", "wide"], ["t_out"])
                ),
                else_branch=branch("e", node("Neg", ["z"], ["e_out"])),
            ),
            node("Gemm", ["y", "fc2.weight"], ["scores"], transB=1),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        fc1__weight=numbers(9, 6),
        other__weight=numbers(9, 6, seed=4),
        fc2__weight=numbers(5, 9),
        large=np.array(1e6, np.float32),
    )


def sequences() -> ModelProto:
    """A list of tensors crosses from before the layer to behind it."""
    return model(
        [
            node("SplitToSequence", ["x", "three"], ["parts"], axis=1),
            node("Gemm", ["x", "fc1.weight"], ["z"], transB=1),
            node("Relu", ["z"], ["a"]),
            node("SequenceAt", ["parts", "last"], ["part"]),
            node("Concat", ["a", "part"], ["both"], axis=1),
            node("Gemm", ["both", "fc2.weight"], ["scores"], transB=1),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        fc1__weight=numbers(9, 6),
        fc2__weight=numbers(5, 12),
        three=np.array(3),
        last=np.array(1),
    )


def baked_batch() -> ModelProto:
    """Takes exactly four samples, and says so in a Reshape too."""
    return model(
        [
            node("Conv", ["x", "c.weight"], ["z"], pads=[1, 1]),
            node("Relu", ["z"], ["a"]),
            node("Reshape", ["a", "shape"], ["f"]),
            node("MatMul", ["f", "fc.weight"], ["scores"]),
        ],
        [value("x", 4, 3, 6)],
        [value("scores", 4, 5)],
        c__weight=numbers(2, 3, 3),
        shape=np.array([4, 12]),
        fc__weight=numbers(12, 5),
    )


def needed_batch() -> ModelProto:
    """Takes exactly four samples: a value that is added to them has four rows."""
    return model(
        [
            node("Gemm", ["x", "fc1.weight"], ["z"], transB=1),
            node("Add", ["z", "rows"], ["b"]),
            node("Relu", ["b"], ["a"]),
            node("Gemm", ["a", "fc2.weight"], ["scores"], transB=1),
        ],
        [value("x", 4, 6)],
        [value("scores", 4, 5)],
        fc1__weight=numbers(9, 6),
        rows=np.tile(numbers(9), (4, 1)),
        fc2__weight=numbers(5, 9),
    )


def mixing_batch() -> ModelProto:
    """Runs on any number of samples, but each then depends on all others of its batch."""
    return model(
        [
            node("Gemm", ["x", "fc1.weight"], ["z"], transB=1),
            node("ReduceMax", ["z", "zero"], ["m"]),
            node("Sub", ["z", "m"], ["b"]),
            node("Gemm", ["b", "fc2.weight"], ["scores"], transB=1),
        ],
        [value("x", 2, 6)],
        [value("scores", 2, 5)],
        fc1__weight=numbers(9, 6),
        zero=np.array([0]),
        fc2__weight=numbers(5, 9),
    )


def half_inside() -> ModelProto:
    """Float32 outside; the layers are float16 behind casts."""
    return model(
        [
            node("Cast", ["x"], ["h"], to=HALF),
            node("Gemm", ["h", "fc1.weight", "b"], ["z"], transB=1),
            node("Relu", ["z"], ["a"]),
            node("MatMul", ["a", "fc2.weight"], ["s"]),
            node("Cast", ["s"], ["scores"], to=FLOAT),
        ],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        fc1__weight=numbers(9, 6, dtype=np.float16),
        b=numbers(9, dtype=np.float16),
        fc2__weight=numbers(9, 5, dtype=np.float16),
    )


def function_inside() -> ModelProto:
    """The layer stands in a function of the model's own."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    block = helper.make_function(
        "own",
        "Block",
        ["x", "w"],
        ["y"],
        [node("Gemm", ["x", "w"], ["z"], transB=1), node("Relu", ["z"], ["y"])],
        opsets[:1],
    )
    made = model(
        [node("Gemm", ["x", "fc2.weight"], ["scores"], transB=1)],
        [value("x", "n", 6)],
        [value("scores", "n", 5)],
        fc1__weight=numbers(9, 6),
        fc2__weight=numbers(5, 9),
    )
    made.graph.node.insert(0, node("Block", ["x", "fc1.weight"], ["a"], domain="own"))
    made.graph.node[1].input[0] = "a"
    made.functions.append(block)
    made.opset_import.append(opsets[1])
    checker.check_model(made)
    return made


def two_inputs() -> ModelProto:
    """Tokens and numbers in, a label and scores out."""
    return model(
        [
            node("Gather", ["table", "tokens"], ["e"]),
            node("ReduceMean", ["e", "one"], ["m"], keepdims=0),
            node("Concat", ["m", "x"], ["both"], axis=1),
            node("Gemm", ["both", "fc1.weight"], ["z"], transB=1),
            node("Tanh", ["z"], ["a"]),
            node("Gemm", ["a", "fc2.weight"], ["probabilities"], transB=1),
            node("ArgMax", ["probabilities"], ["label"], axis=1),
        ],
        [value("tokens", "n", 4, element=TensorProto.INT64), value("x", "n", 2)],
        [value("label", "n", 1, element=TensorProto.INT64), value("probabilities", "n", 5)],
        table=numbers(11, 4),
        one=np.array([1]),
        fc1__weight=numbers(9, 6),
        fc2__weight=numbers(5, 9),
    )


def retouched(made: ModelProto, change: Callable[[ModelProto], None]) -> ModelProto:
    """A copy with a change."""
    copy = ModelProto()
    copy.CopyFrom(made)
    change(copy)
    return copy


def tensors(made: ModelProto) -> dict[str, bytes]:
    """The tensors of a model by name, serialized."""
    return {each.name: each.SerializeToString() for each in made.graph.initializer}
