"""Small layers to flip in directions, and their samples."""

from dataclasses import replace

import numpy as np

from flain_core.in_directions.class_directions import parts_of
from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_numpy import Dense, Network

OUT, IN, COUNT = 3, 7, 25

TOWARD = np.array([[1.0, 2.0, -2.0], [2.0, 1.0, 2.0]]) / 3
"""Two classes that the outputs speak for."""


def inputs(count=COUNT, seed=0):
    """Samples whose inputs belong together, and have no mean of zero."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, IN)) @ rng.normal(size=(IN, IN)) + 2 * rng.normal(size=IN)
    return np.abs(mixed)


def directions(x, *, bias=True, factor=2.0, space=None, seed=1, dtype=np.float64, toward=None):
    rng = np.random.default_rng(seed)
    initial = rng.normal(size=(OUT, IN)).astype(dtype)
    final = (initial + rng.normal(size=(OUT, IN))).astype(dtype)
    offset = rng.normal(size=OUT).astype(dtype) if bias else None
    network = Network([Dense("only", final, offset)])
    space = space or InputSpace.of(x, bias=bias)
    classes = None if toward is None else of_classes(toward, len(x))
    return Directions(network, network.layers()["only"], initial, factor, space, classes)


def of_classes(toward, count):
    """Directions of classes, to which of these each sample belongs, and labels from 10."""
    return toward, np.arange(count) % len(toward), 10 + np.arange(len(toward))


def whole_parts(foremost, number):
    """What a candidate takes over of others, each as a matrix over the outputs."""
    toward, behind = foremost
    for level, of_all, of_own in parts_of(behind, number):
        yield level, of_all * np.eye(toward.shape[1]) + (toward.T * of_own) @ toward


def covariance(space, x):
    """The shrunk covariance of all inputs, written out."""
    centred = x - space.mean
    plain = centred.T @ centred / len(x)
    kept = 1 - space.shrinkage
    return kept * plain + (1 - kept) * np.diag(np.diag(plain))


def arrays(network):
    layer = network.layers()["only"]
    return layer.weight, layer.bias


def at_strength(found, strength):
    """The same directions, where candidate 1 has this strength."""

    class Space(InputSpace):
        def strength(self, number):
            return strength

    space = Space(*(getattr(found.space, name) for name in InputSpace.__dataclass_fields__))
    return replace(found, space=space)
