"""The conformance suite on each engine; test_conformance_keras.py runs it once for every one."""

import keras
import numpy as np
import pytest
from keras import layers as L

import flain_keras
from flain_core.conformance import Conformance, Conv, Dense, Mean, ReLU, Residual

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


class TestKeras(Conformance):
    checks = 160
    biases = True
    formats = (".keras", ".h5")
    open_network = staticmethod(flain_keras.open_network)
    save = staticmethod(flain_keras.save)

    def build(self, reference):
        inputs = keras.Input(self.batch(np.empty((1, *reference.sample))).shape[1:])
        made = {name: layer(part) for name, part in reference.layers().items()}
        model = keras.Model(inputs, run(reference.parts, inputs, made))
        for name, part in reference.layers().items():
            biases = [] if part.bias is None else [part.bias]
            made[name].set_weights([kernel(part), *biases])
        return model

    def batch(self, x):
        return np.moveaxis(x, 1, -1)

    def array(self, output):
        return np.moveaxis(output, -1, 1)

    def load(self, path, reference):
        return flain_keras.load(path)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="TensorFlow needs a GPU for it")
class TestKerasChannelsFirst(TestKeras):
    checks = 160

    @pytest.fixture(autouse=True)
    def channels_first(self):
        keras.config.set_image_data_format("channels_first")
        yield
        keras.config.set_image_data_format("channels_last")

    def batch(self, x):
        return x

    def array(self, output):
        return output


def run(parts, x, made):
    for part in parts:
        match part:
            case Dense(name) | Conv(name):
                x = made[name](x)
            case ReLU():
                x = L.ReLU()(x)
            case Mean():
                x = L.GlobalAveragePooling2D()(x)
            case Residual(branch):
                x = L.Add()([x, run(branch, x, made)])
    return x


def layer(part):
    out, into, *size = part.weight.shape
    bias = part.bias is not None
    if isinstance(part, Dense):
        return L.Dense(out, use_bias=bias, name=part.name)
    padding = "same" if any(part.padding) else "valid"
    options = {"strides": part.stride, "padding": padding, "use_bias": bias}
    if part.transposed:
        return L.Conv2DTranspose(out, size, name=part.name, **options)
    if into == 1:
        return L.DepthwiseConv2D(
            size, depth_multiplier=out // part.groups, name=part.name, **options
        )
    return L.Conv2D(out, size, groups=part.groups, name=part.name, **options)


def kernel(part):
    weight = part.weight
    if isinstance(part, Dense):
        return weight.T
    if part.transposed:
        return weight.transpose(2, 3, 0, 1)
    if weight.shape[1] == 1:
        out, _, *size = weight.shape
        return weight.reshape(part.groups, out // part.groups, *size).transpose(2, 3, 0, 1)
    return weight.transpose(2, 3, 1, 0)
