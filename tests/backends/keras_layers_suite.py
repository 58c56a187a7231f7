"""Layers of Keras models, and which are refused, on each engine; test_keras.py runs it."""

from __future__ import annotations

from typing import Any

import keras
import keras_models as models
import numpy as np
import pytest
from keras import layers as L
from keras_cases import CASES, close

import flain_core as flain
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


def test_weights_go_into_layers_and_come_back_in_their_layout() -> None:
    for case in CASES.values():
        network = open_network(case.model())
        for name, layer in network.layers().items():
            new = np.arange(layer.weight.size, dtype=np.float32).reshape(layer.weight.shape)
            replaced = network.replace({name: new})
            np.testing.assert_array_equal(replaced.layers()[name].weight, new)
            np.testing.assert_array_equal(
                open_network(replaced.native, like=network).layers()[name].weight, new
            )
            assert not replaced.layers()[name].weight.flags.writeable
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    conv = keras.Sequential([keras.Input((9, 9, 4)), L.Conv2D(5, (2, 3), name="conv")])
    conv.set_weights([kernel, np.zeros(5)])
    np.testing.assert_array_equal(
        open_network(conv).layers()["conv"].weight, kernel.transpose(3, 2, 0, 1)
    )
    up = keras.Sequential([keras.Input((9, 9, 5)), L.Conv2DTranspose(4, (2, 3), name="up")])
    up.set_weights([kernel, np.zeros(4)])
    np.testing.assert_array_equal(
        open_network(up).layers()["up"].weight, kernel.transpose(2, 3, 0, 1)
    )


def test_a_wrong_weight_is_refused() -> None:
    network = open_network(CASES["cnn"].model())
    with pytest.raises(flain.WeightsError, match=r"shape \(4, 7\); got float64 of shape \(7, 4\)"):
        network.replace({"fc2": np.ones((7, 4))})
    with pytest.raises(flain.WeightsError, match=r"finite in float32; got NaN, infinity or"):
        network.replace({"fc2": np.full((4, 7), 1e300)})
    for narrow, large in (("float16", 1e5), ("bfloat16", 1e300)):
        half = keras.Sequential([keras.Input((3,)), L.Dense(2, dtype=narrow, name="half")])
        with pytest.raises(flain.WeightsError, match=f"'half'.*finite in {narrow}; got NaN"):
            open_network(half).replace({"half": np.full((2, 3), large)})


def test_whole_numbers_are_no_weights() -> None:
    model = CASES["cnn"].model()
    quantised = [(100 * each).astype(np.int8) for each in model.get_weights()]
    with pytest.raises(flain.WeightsError, match=r"floating-point.*conv1/kernel.*int8.*quantised"):
        open_network(quantised, like=model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_a_bias_is_rounded_to_the_type_of_its_variable(dtype: str) -> None:
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(2, dtype=dtype, name="narrow"), L.Dense(3)]
    )
    network = open_network(model)
    given = np.array([0.1, 0.7])
    changed = network.replace({}, {"narrow": given})
    variable = model.get_layer("narrow").bias
    rounded = keras.ops.cast(keras.ops.convert_to_tensor(given, "float32"), variable.dtype)
    stored = keras.ops.convert_to_numpy(keras.ops.cast(rounded, "float32"))
    stored = stored.astype(np.float16 if variable.dtype == "float16" else np.float32)
    np.testing.assert_array_equal(changed.layers()["narrow"].bias, stored)
    np.testing.assert_array_equal(open_network(changed.native).layers()["narrow"].bias, stored)
    x = np.ones((4, 3), np.float32)
    moved = changed.cut("narrow", x).output - network.cut("narrow", x).output
    close(moved, np.broadcast_to(given - network.layers()["narrow"].bias, (4, 2)), 2e-2)
    with pytest.raises(flain.WeightsError, match=r"bias of 'narrow'.*finite in"):
        network.replace({}, {"narrow": np.full(2, 1e300)})


class Borrowed(L.Layer):
    def __init__(self, lender: L.Layer) -> None:
        super().__init__()
        self.bias = lender.bias

    def call(self, x: Any) -> Any:
        return x * self.bias


def test_a_bias_that_is_absent_shared_or_of_more_axes_is_not_shown() -> None:
    inputs = keras.Input((5, 6))
    deep = L.EinsumDense("abc,cd->abd", (5, 4), bias_axes="bd", name="deep")
    flat = L.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d", name="flat")
    plain = L.Dense(4, use_bias=False, name="plain")
    lent = L.Dense(7, name="lent")
    hidden = lent(plain(flat(deep(inputs))))
    model = keras.Model(inputs, Borrowed(lent)(hidden))
    layers = open_network(model).layers()
    assert [name for name, layer in layers.items() if layer.bias is not None] == ["flat"]
    with pytest.raises(flain.WeightsError, match="bias of 'deep': the layer shows none"):
        open_network(model).replace({}, {"deep": np.zeros(4)})


def quantized() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), L.Dense(4, name="q"), L.Dense(3, name="head")])
    model.quantize("int8")
    return model


class Transposed(L.Layer):
    """Multiplies by the transposed kernel of another layer."""

    def __init__(self, other: L.Layer) -> None:
        super().__init__()
        self.theirs = other.kernel

    def call(self, x: Any) -> Any:
        return x @ keras.ops.transpose(self.theirs)


def tied() -> keras.Model:
    x, dense = keras.Input((6,)), L.Dense(4, name="tied")
    h = dense(x)
    return keras.Model(x, Transposed(dense)(h))


def test_layers_that_cannot_be_purified_say_why() -> None:
    network = open_network(CASES["image"].model())
    with pytest.raises(flain.LayerError, match="two kernels"):
        network.cut("separable", CASES["image"].batch())
    with pytest.raises(flain.LayerError, match="equation"):
        open_network(models.sequence()).replace({"attention/query": np.ones((2, 2))})
    with pytest.raises(flain.LayerError, match="Did you mean 'head'"):
        network.replace({"heed": np.ones((2, 2))})
    low_rank = keras.Sequential([keras.Input((6,)), L.Dense(4, name="low"), L.Dense(3)])
    low_rank.get_layer("low").enable_lora(2)
    with pytest.raises(flain.LayerError, match="LoRA"):
        open_network(low_rank).replace({"low": np.ones((4, 6))})
    own = type("Own", (L.Dense,), {"call": lambda self, x: L.Dense.call(self, x) ** 2})
    with pytest.raises(flain.LayerError, match="call method of its own"):
        open_network(keras.Sequential([keras.Input((6,)), own(4, name="own")])).replace(
            {"own": np.ones((4, 6))}
        )
    with pytest.raises(flain.LayerError, match="quantized"):
        open_network(quantized()).replace({"q": np.ones((4, 6))})


def test_refused_layers_are_named_with_the_reasons() -> None:
    image = CASES["image"].model()
    network = open_network(image)
    assert list(network.refused_layers()) == ["separable"]
    x = CASES["image"].batch(20)
    result = flain.purify(
        image,
        initial=models.image(),
        data=(x, network.predict(x).argmax(1)),
        layers="all",
        settings=flain.Settings(statistic="mean_abs", tolerance=0.2),
    )
    assert [layer.name for layer in result.layers] == ["depth", "up", "head"]
    expected = "'separable' was left out, as it cannot be purified: a separable convolution has two"
    assert any(note.startswith(expected) for note in result.notes)

    data = np.ones((2, 6), np.float32), np.array([0, 1])
    for build, names, why in (
        (quantized, ["q", "head"], "quantized"),
        (tied, ["tied"], "same ker"),
    ):
        reasons = open_network(build()).refused_layers()
        assert list(reasons) == names
        assert all(why in reason for reason in reasons.values())
        every = "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items())
        for layers in ("all", "auto", names[0]):
            with pytest.raises(flain.LayerError) as caught:
                flain.purify(build(), initial=build(), data=data, layers=layers)
            assert str(caught.value) == f"no layer of the model can be purified: {every}"
    assert open_network(CASES["residual"].model()).refused_layers() == {}


def test_recurrent_layers_are_refused() -> None:
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(9, 6, name="words"),
            keras.layers.Bidirectional(keras.layers.GRU(5), name="both"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    network = open_network(model)
    assert list(network.layers()) == ["head"]
    refused = network.refused_layers()
    assert list(refused) == ["both/forward_gru", "both/backward_gru"]
    assert "recurrent" in refused["both/backward_gru"]
