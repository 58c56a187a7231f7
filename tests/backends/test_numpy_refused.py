"""NumPy networks refuse weights, layers and samples that do not fit, and say why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy_networks import image_network, norm, numbers, opened

import flain_numpy as fn
from flain_core.errors import LayerError, ModelError, WeightsError
from flain_core.network import Array


def test_cut_refuses_what_does_not_fit() -> None:
    network, x = opened("image")
    cut = network.cut("fc1", x)
    with pytest.raises(WeightsError, match=r"expected shape \(7, 32\); got \(32, 7\)"):
        cut.linear(numbers(32, 7), np.array([0]))
    with pytest.raises(ModelError, match=r"expected shape \(5, 7\); got \(1, 7\)"):
        cut.tail(cut.output[:1])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((3, 2)), r"expected real numbers of shape \(2, 3\); got float64 of shape"),
        (np.ones((2, 3), complex), "got complex128"),
        (np.array([[None] * 3] * 2), "got object"),
        (np.full((2, 3), np.nan), "finite in float16; got NaN"),
        (np.full((2, 3), -np.inf), "finite in float16; got NaN"),
        (np.full((2, 3), 1e6), "out of its range; convert the model to a wider type"),
    ],
)
def test_replace_refuses_bad_weights(weight: Array, message: str) -> None:
    network = fn.Network([fn.Dense("fc", np.ones((2, 3), np.float16))])
    with pytest.raises(WeightsError, match=message):
        network.replace({"fc": weight})


def test_unknown_layers_are_named_with_the_known_ones() -> None:
    network, x = opened("image")
    message = (
        "no dense .* called 'fc_1'; the model has 'first', .*, 'fc1', 'fc2'. Did you mean 'fc1'"
    )
    with pytest.raises(LayerError, match=message):
        network.cut("fc_1", x)
    with pytest.raises(LayerError, match=message):
        network.replace({"fc_1": np.ones(1)})
    with pytest.raises(LayerError, match="has no layer with a weight"):
        fn.Network([fn.ReLU()]).cut("fc", x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (numbers(2, 1, 8, 8), r"expected images \(n, 3, H, W\); got \(2, 1, 8, 8\)"),
        (numbers(2, 3, 64), r"Conv2d\('first', .* cannot run on 2×3×64"),
        (numbers(2, 3, 9, 12), r"expected \(n, ..., 32\); got \(2, 48\)"),
        (
            numbers(2, 3, 1, 1),
            "expected images of at least 2 pixels with their padding along axis 2; got 1",
        ),
        ((numbers(2, 3, 8, 8),), "got tuple"),
        (np.array(["cat"]), "got <U3"),
        (np.array(1.0), r"got float64 \(\)"),
    ],
)
def test_wrong_samples_are_refused(x: Any, message: str) -> None:
    network = image_network()
    with pytest.raises(ModelError, match=message):
        network.predict(x)
    with pytest.raises(ModelError, match=message):
        network.cut("fc1", x)


def test_operations_never_broadcast_by_accident() -> None:
    wide = fn.Residual([fn.Dense("fc", numbers(3, 1))])
    with pytest.raises(ModelError, match="expected branch and shortcut of one shape"):
        fn.Network([wide]).predict(numbers(2, 1))
    with pytest.raises(ModelError, match=r"expected \(n, 3, ...\); got \(2, 1\)"):
        fn.Network([norm(3)]).predict(numbers(2, 1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fn.Dense("", numbers(2, 3)), "name of a layer"),
        (lambda: fn.Dense("fc", numbers(2, 3, 1)), r"expected \(out, in\); got shape"),
        (lambda: fn.Dense("fc", numbers(0, 3)), r"expected \(out, in\); got shape"),
        (lambda: fn.Dense("fc", numbers(2, 3), numbers(3)), r"expected shape \(2,\)"),
        (lambda: fn.Dense("fc", np.array([["a"]])), "got one of <U1"),
        (lambda: fn.Dense("fc", [[1], [2, 3]]), "got list"),  # type: ignore[arg-type]
        (lambda: fn.Conv2d("c", numbers(2, 3)), "expected .* kh, kw"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), groups=3), "divisor of its 4 output"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), stride=0), "stride: expected an integer of"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), padding=-1), "padding: expected an integer"),
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), padding="full"), "got 'full'"),  # type: ignore[arg-type]
        (lambda: fn.Conv2d("c", numbers(4, 1, 3, 3), dilation=(1, 2, 3)), "dilation"),  # type: ignore[arg-type]
        (lambda: fn.MaxPool2d(0), "size: expected an integer of at least 1"),
        (lambda: fn.AvgPool2d(2, padding=2), "at most half the window"),
        (lambda: fn.BatchNorm(numbers(2), numbers(3)), r"variance .* expected shape \(2,\)"),
        (lambda: fn.BatchNorm(numbers(2), numbers(2), epsilon=-1), "epsilon"),
        (lambda: fn.Network([fn.Dense("a", numbers(2, 3)), "relu"]), "got 'relu'"),  # type: ignore[list-item]
        (
            lambda: fn.Network([fn.Dense("a", numbers(2, 3)), fn.Dense("a", numbers(4, 2))]),
            "two different layers are named 'a'",
        ),
    ],
)
def test_networks_that_make_no_sense_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build()
