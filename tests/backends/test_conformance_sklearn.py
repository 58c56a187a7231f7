from typing import ClassVar

import numpy as np
from sklearn.neural_network import MLPClassifier

import flain_sklearn
from flain_core.conformance import Conformance, Dense, ReLU


class TestSklearn(Conformance):
    checks = 18
    biases = True
    exceptions: ClassVar = {
        **dict.fromkeys(
            ("conv", "grouped", "depthwise", "transposed", "residual", "without bias"),
            "a perceptron has dense layers in a row",
        ),
        "used twice": "a perceptron uses each of its layers once",
    }
    open_network = staticmethod(flain_sklearn.open_network)

    def build(self, reference):
        layers, between = reference.parts[::2], set(map(type, reference.parts[1::2]))
        if {type(layer) for layer in layers} != {Dense} or between != {ReLU}:
            raise NotImplementedError(reference)
        if len(layers) != len(reference.layers()):
            raise NotImplementedError("a layer used twice")
        *hidden, classes = (len(layer.bias) for layer in layers)
        model = MLPClassifier(hidden_layer_sizes=hidden)
        x, y = np.zeros((classes, *reference.sample), np.float32), np.arange(classes)
        model.partial_fit(x, y, classes=y)
        model.coefs_ = [layer.weight.T for layer in layers]
        model.intercepts_ = [layer.bias for layer in layers]
        return model
