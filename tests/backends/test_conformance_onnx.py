from itertools import count

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

import flain_onnx
from flain_core.conformance import Conformance, Conv, Dense, Mean, ReLU, Residual


class TestOnnx(Conformance):
    checks = 140
    biases = True
    to_the_bit = False  # onnxruntime prepares stored weights; replaced ones are fed to it
    exceptions = {"used twice": "a layer used twice is a shared initializer, which is refused"}
    formats = (".onnx",)
    open_network = staticmethod(flain_onnx.open_network)
    save = staticmethod(flain_onnx.save)

    def build(self, reference):
        return Graph().model(reference)

    def load(self, path, reference):
        return flain_onnx.load(path)


class TestOnnxMatMul(TestOnnx):
    """Dense layers whose bias is added by a node of its own."""

    checks = 140

    def build(self, reference):
        return GraphOfProducts().model(reference)


class TestOnnxLarge(TestOnnx):
    """Weights that every run is given, as those of large layers are."""

    checks = 140
    to_the_bit = True

    @pytest.fixture(autouse=True)
    def _large(self, monkeypatch):
        monkeypatch.setattr("flain_onnx._network._FED_FROM", 0)


class Graph:
    def __init__(self):
        self.nodes, self.arrays, self.numbers = [], {}, count()

    def model(self, reference):
        scores = self.run(reference.parts, "x")
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])
            for name, shape in (("x", reference.sample), (scores, (None,)))
        ]
        arrays = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "reference", ends[:1], ends[1:], arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        checker.check_model(model)
        return model

    def run(self, parts, x):
        for part in parts:
            match part:
                case Dense():
                    x = self.dense(x, *self.parameters(part))
                case Conv(stride=stride, padding=padding, groups=groups):
                    options = {"strides": stride, "pads": padding * 2, "group": groups}
                    operator = "ConvTranspose" if part.transposed else "Conv"
                    x = self.node(operator, x, *self.parameters(part), **options)
                case ReLU():
                    x = self.node("Relu", x)
                case Mean():
                    x = self.node("Flatten", self.node("GlobalAveragePool", x))
                case Residual(branch):
                    x = self.node("Add", x, self.run(branch, x))
        return x

    def dense(self, x, *parameters):
        return self.node("Gemm", x, *parameters, transB=1)

    def parameters(self, part):
        weight = part.weight.swapaxes(0, 1) if getattr(part, "transposed", False) else part.weight
        weight = np.ascontiguousarray(weight)
        arrays = {f"{part.name}.weight": weight}
        if part.bias is not None:
            arrays[f"{part.name}.bias"] = part.bias
        self.arrays |= arrays
        return tuple(arrays)

    def node(self, operator, *inputs, **attributes):
        output = f"value{next(self.numbers)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


class GraphOfProducts(Graph):
    def dense(self, x, weight, bias=None):
        self.arrays[weight] = np.ascontiguousarray(self.arrays[weight].T)
        product = self.node("MatMul", x, weight)
        return product if bias is None else self.node("Add", product, bias)
