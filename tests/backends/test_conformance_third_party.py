"""A backend as somebody else would write it, in one file and with public names alone."""

import copy
from typing import ClassVar

import numpy as np

from flain_core import Layer, LayerError, WeightsError
from flain_core.conformance import Conformance, Dense, ReLU


class DictNetwork:
    """Opens a dict: "order" names what is run, "relu" or a layer's (weight (in, out), bias)."""

    def __init__(self, model):
        self.native = copy.deepcopy(model)

    def layers(self):
        weights = {n: each[0].T.view() for n, each in self.native.items() if n != "order"}
        for weight in weights.values():
            weight.flags.writeable = False
        return {name: Layer(name, "dense", weight) for name, weight in weights.items()}

    def predict(self, x):
        return self.run(self.native["order"], x)

    def cut(self, layer, x):
        return DictCut(self, layer, x)

    def replace(self, weights):
        network = DictNetwork(self.native)
        for name, weight in weights.items():
            old, bias = self.find(name)
            if weight.shape != old.T.shape or not np.abs(weight).max() < np.finfo("f").max:
                raise WeightsError(f"{name!r}: expected finite numbers of shape {old.T.shape}")
            network.native[name] = (weight.T.astype(old.dtype), bias)
        return network

    def find(self, name):
        if name not in self.layers():
            raise LayerError(f"no layer {name!r}; there are {', '.join(self.layers())}")
        return self.native[name]

    def run(self, order, x):
        for name in order:
            if name == "relu":
                x = np.maximum(x, 0)
            else:
                x = x @ self.native[name][0] + self.native[name][1]
        return x


class DictCut:
    def __init__(self, network, layer, x):
        order = network.native["order"]
        network.find(layer)
        places = [place for place, name in enumerate(order) if name == layer]
        entering = [network.run(order[:place], x) for place in places]
        self.calls = len(places)
        self.inputs = entering[0] if self.calls == 1 else np.stack(entering, axis=2)
        self.output = network.run([layer], entering[-1])
        self.tail = lambda output: network.run(order[places[-1] + 1 :], output.copy())

    def linear(self, weight, neurons):
        return self.inputs[:, neurons] @ weight[:, neurons].T


class TestDicts(Conformance):
    checks = 26
    exceptions: ClassVar = dict.fromkeys(
        ("conv", "grouped", "depthwise", "transposed", "residual"), "only dense layers in a row"
    )
    open_network = DictNetwork

    def build(self, reference):
        if {type(part) for part in reference.parts} != {Dense, ReLU}:
            raise NotImplementedError
        order = [getattr(part, "name", "relu") for part in reference.parts]
        return {"order": order} | {n: (p.weight.T, p.bias) for n, p in reference.layers().items()}
