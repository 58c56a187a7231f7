"""ONNX graphs with the layers and a batch of each, and ways to rename and fold what is in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_models as models
from onnx import ModelProto, numpy_helper
from onnx_models import numbers

N = 7


@dataclass(frozen=True)
class Case:
    build: Callable[[], ModelProto]
    shape: tuple[int, ...]
    layers: dict[str, tuple[int, ...]]
    tolerance: float = 1e-6

    def batch(self, n: int = N) -> np.ndarray:
        return numbers(n, *self.shape, seed=9)


CASES = {
    "mlp": Case(models.mlp, (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
    "double": Case(lambda: models.mlp(np.float64), (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
    "half": Case(lambda: models.mlp(np.float16), (6,), {"fc1": (9, 6), "fc2": (5, 9)}, 4e-3),
    "half inside": Case(models.half_inside, (6,), {"fc1": (9, 6), "fc2": (5, 9)}, 4e-3),
    "scaled": Case(models.gemm_scaled, (6,), {"fc1": (9, 6), "head": (5, 9)}),
    "turned": Case(models.gemm_turned, (6,), {"w1": (9, 6), "w2": (5, 9), "w3": (4, 5)}),
    "bias apart": Case(
        models.matmul_add, (4, 6), {"embed": (9, 6), "project": (7, 9), "MatMul_2": (5, 7)}, 3e-6
    ),
    "weight left": Case(models.weight_left, (6, 4), {"mix": (9, 6), "head": (5, 9)}),
    "hidden weights": Case(models.hidden_weights, (6,), {"k": (9, 6), "second": (5, 9)}),
    "convolutions": Case(
        models.convolutions,
        (6, 7, 8),
        {"c1": (4, 3, 3, 2), "up": (10, 2, 2, 3), "same": (7, 10, 3, 2), "fc": (5, 7)},
    ),
    "other dimensions": Case(
        models.other_dimensions,
        (3, 12),
        {"line": (4, 3, 3), "volume": (6, 4, 2, 1, 2), "fc": (5, 6)},
    ),
    "residual": Case(models.residual, (6,), {"up": (9, 6), "down": (6, 9), "head": (5, 15)}),
    "captured": Case(models.captured, (6,), {"fc1": (9, 6), "other": (9, 6), "fc2": (5, 9)}),
    "sequences": Case(models.sequences, (6,), {"fc1": (9, 6), "fc2": (5, 12)}),
    "baked batch": Case(models.baked_batch, (3, 6), {"c": (2, 3, 3), "fc": (5, 12)}),
    "needed batch": Case(models.needed_batch, (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
    "function": Case(models.function_inside, (6,), {"fc1": (9, 6), "fc2": (5, 9)}),
}


def close(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


def first_out(proto: ModelProto) -> int:
    return int(proto.graph.initializer[0].dims[0])


def folded(how: str) -> ModelProto:
    def change(proto: ModelProto) -> None:
        first = proto.graph.node[0]
        if how == "dynamo":
            entry = first.metadata_props.add()
            entry.key, entry.value = "pkg.onnxscript.rewriter.rule_name", "FuseBatchNormIntoConv"
        else:
            first.input[1] = proto.graph.initializer[0].name = how
        if how.startswith("onnx::"):
            bias = numpy_helper.from_array(numbers(first_out(proto)), "onnx::Conv_22")
            proto.graph.initializer.append(bias)
            first.input[2:] = [bias.name]

    return models.retouched(models.convolutions(), change)


def renamed(proto: ModelProto, names: dict[str, str]) -> ModelProto:
    def change(copy: ModelProto) -> None:
        for each in copy.graph.initializer:
            each.name = names.get(each.name, each.name)
        for each in copy.graph.node:
            each.input[:] = [names.get(name, name) for name in each.input]

    return models.retouched(proto, change)
