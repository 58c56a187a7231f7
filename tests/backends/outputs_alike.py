"""One network with a backdoor that answers in three ways, to be built in every framework.

Twelve features, of which the last three are silent in clean data; a trigger switches them on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

import flain_core as flain
from flain_core.opening.registry import open_network
from flain_numpy import Dense, Network, ReLU

Ending = Literal["logit", "sigmoid", "softmax"]

ENDINGS: dict[Ending, str] = {
    "logit": "it was read as the logit of class 1",
    "sigmoid": "it was read as the probability of class 1",
    "softmax": "the model's scores were read as probabilities",
}
"""What the last layer is followed by, and the note about how its output was read."""


@dataclass(frozen=True)
class Weights:
    """``(9, 12)``, ``(9,)``, ``(classes, 9)``, ``(classes,)`` float32."""

    fc1: np.ndarray
    bias1: np.ndarray
    fc2: np.ndarray
    bias2: np.ndarray


def samples(ending: Ending) -> tuple[np.ndarray, np.ndarray]:
    """Four hundred clean samples and their labels."""
    x = np.random.default_rng(0).random((400, 12), dtype=np.float32)
    x[:, 9:] = 0
    groups = x[:, :9].reshape(400, 3, 3).sum(axis=2)
    if ending == "softmax":
        return x, groups.argmax(axis=1)
    return x, (groups[:, 1] > groups[:, 0]).astype(np.int64)


def weights(ending: Ending, which: Literal["initial", "final"]) -> Weights:
    """Return the weights of the final network, which is right most of the time, or the initial."""
    random = np.random.default_rng(1)
    start = random.standard_normal((9, 12)) / 4
    bias1 = 0.1 * random.standard_normal(9)
    final = start.copy()
    for group in range(3):
        rows = slice(3 * group, 3 * group + 3)
        final[rows, rows] += 1.0
    final[3:6, 9:] += 3.0  # the trigger is wired to class 1
    groups = np.repeat(np.eye(3), 3, axis=1) * 2
    fc2 = groups if ending == "softmax" else groups[1:2] - groups[:1]
    fc1 = start if which == "initial" else final
    bias2 = np.zeros(len(fc2))
    return Weights(*(each.astype(np.float32) for each in (fc1, bias1, fc2, bias2)))


def answer(outputs: np.ndarray, ending: Ending) -> np.ndarray:
    """What the network makes of the last layer's outputs."""
    if ending == "logit":
        return outputs
    if ending == "sigmoid":
        return 1 / (1 + np.exp(-outputs))
    odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def numpy_network(ending: Ending, which: Literal["initial", "final"]) -> Network:
    held = weights(ending, which)
    return Network(
        [
            *(Dense("fc1", held.fc1, held.bias1), ReLU(), Dense("fc2", held.fc2, held.bias2)),
            lambda outputs: answer(outputs, ending),
        ]
    )


def check(build: Callable[[Literal["initial", "final"]], Any], ending: Ending) -> None:
    """Purify without ``score=`` and compare with NumPy."""
    given, expected = purified(build, ending), purified(lambda w: numpy_network(ending, w), ending)
    (outcome,), (in_numpy,) = given.layers, expected.layers
    assert outcome.flip == in_numpy.flip == "directions"
    assert outcome.threshold == pytest.approx(in_numpy.threshold, rel=1e-5)
    np.testing.assert_array_equal(outcome.flipped, in_numpy.flipped)
    assert outcome.flipped[9:].all()
    assert not outcome.flipped.all()
    layer, like = (
        open_network(result.model).layers()[result.layers[0].name] for result in (given, expected)
    )
    np.testing.assert_allclose(layer.weight, like.weight, atol=1e-5)
    np.testing.assert_allclose(layer.bias, like.bias, atol=1e-5)
    assert given.settings.measure == "probability"
    assert given.verdict == "flipped"
    assert given.promise == expected.promise
    assert any(ENDINGS[ending] in note for note in given.notes)
    x, y = samples(ending)
    x[:, 9:] = 1
    before, after = (open_network(each).predict(x) for each in (build("final"), given.model))
    fooled, left = (attacked(scores, y, ending) for scores in (before, after))
    assert fooled > 0.9
    assert left < 0.1


def attacked(scores: np.ndarray, y: np.ndarray, ending: Ending) -> float:
    """Return the share of triggered samples of other classes that are taken for class 1."""
    if ending == "softmax":
        return float((scores.argmax(axis=1) == 1)[y != 1].mean())
    return float((scores.reshape(-1) > (0.5 if ending == "sigmoid" else 0))[y != 1].mean())


def purified(build: Callable[[Literal["initial", "final"]], Any], ending: Ending) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        return flain.purify(build("final"), initial=build("initial"), data=samples(ending))
