"""The places of a dense layer's inputs behind a convolution are observed, not guessed."""

import numpy as np
import pytest

import flain_numpy as fn
from flain_core.reporting.input_grid import InputGrid, find_grid

RNG = np.random.default_rng(0)


def conv(name, channels, out, size=3):
    return fn.Conv2d(name, RNG.normal(size=(out, channels, size, size)), padding=size // 2)


def dense(name, width, out):
    return fn.Dense(name, RNG.normal(size=(out, width)))


def grid_of(operations, shape, layer="fc"):
    network = fn.Network(operations)
    return find_grid(network, network.layers()[layer], RNG.normal(size=(8, *shape)))


class ChannelsLast:
    """Flattens place by place, as Keras does."""

    def __call__(self, x):
        return x.transpose(0, 2, 3, 1).reshape(len(x), -1)


class Shuffled:
    def __call__(self, x):
        return x.reshape(len(x), -1)[:, np.random.default_rng(3).permutation(x[0].size)]


def test_channels_rows_and_columns_are_found():
    behind = [conv("conv", 2, 6), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), dense("fc", 90, 4)]
    assert grid_of(behind, (2, 11, 7)) == InputGrid(6, 5, 3)


def test_the_order_of_channels_is_found():
    behind = [conv("conv", 2, 6), fn.ReLU(), ChannelsLast(), dense("fc", 120, 4)]
    assert grid_of(behind, (2, 5, 4)) == InputGrid(6, 5, 4, channels_last=True)


def test_the_last_convolution_before_the_layer_counts():
    first = [conv("a", 1, 5), fn.ReLU(), conv("b", 5, 3), fn.ReLU(), fn.Flatten()]
    assert grid_of([*first, dense("fc", 48, 4)], (1, 4, 4)) == InputGrid(3, 4, 4)


def test_globally_pooled_channels_have_one_place():
    pooled = [conv("conv", 1, 4), fn.ReLU(), fn.GlobalAvgPool2d(), dense("fc", 4, 3)]
    assert grid_of(pooled, (1, 5, 5)) == InputGrid(4, 1, 1)


@pytest.mark.parametrize(
    ("operations", "shape"),
    [
        ([dense("first", 4, 6), fn.ReLU(), dense("fc", 6, 3)], (4,)),
        ([conv("conv", 1, 4), fn.ReLU(), Shuffled(), dense("fc", 64, 3)], (1, 4, 4)),
        ([conv("fc", 1, 4), fn.GlobalAvgPool2d()], (1, 4, 4)),
        (
            [conv("conv", 1, 4), fn.Flatten(), dense("d", 64, 5), fn.ReLU(), dense("fc", 5, 3)],
            (1, 4, 4),
        ),
    ],
    ids=["no convolution", "shuffled", "a convolution", "not right behind"],
)
def test_nothing_is_said_where_it_does_not_show(operations, shape):
    assert grid_of(operations, shape) is None


def test_a_network_that_fails_costs_no_purification():
    network = fn.Network([conv("conv", 1, 4), fn.Flatten(), dense("fc", 64, 3)])

    class Fails:
        layers = network.layers
        cut = network.cut

        def replace(self, weights, biases=None):
            raise RuntimeError

    assert find_grid(Fails(), network.layers()["fc"], RNG.normal(size=(8, 1, 4, 4))) is None


@pytest.mark.parametrize("last", [False, True])
def test_an_arrangement_agrees_with_the_place_of_each_input(last):
    grid = InputGrid(3, 2, 4, last)
    arranged = grid.arrange(np.arange(24))
    assert arranged.shape == (3, 2, 4)
    assert all(arranged[grid.place(neuron)] == neuron for neuron in range(24))
