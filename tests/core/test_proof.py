"""A cut that is wrong in any way is found out, with the reason."""

import backdoored
import numpy as np
import pytest
from recut import Recut

import flain_core as flain
import flain_numpy
from flain_core.flipping_order import FlippingOrder
from flain_core.proof import check_deterministic, prove

X, _ = backdoored.samples(16, seed=4)
INITIAL, FINAL = backdoored.networks()


def proof_of(network, initial=INITIAL, layer="fc1"):
    before = initial.layers()[layer].weight
    flipping = FlippingOrder(network, network.layers()[layer], before, 2.0, np.arange(3))
    return prove(flipping, X)


def test_a_faithful_cut_is_proved():
    proof = proof_of(FINAL)
    assert proof.faithful
    assert proof.why.startswith("proved")
    assert proof.error < 1e-6


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda cut: {"calls": 3}, "the layer runs 3 times in one pass"),
        (
            lambda cut: {"tail": lambda output: cut.tail(output) + 0.5},
            "the cut disagrees with the whole network",
        ),
        (
            lambda cut: {"tail": lambda output: cut.tail(output)[:, :2]},
            "the cut disagrees with the whole network by inf",
        ),
        (
            lambda cut: {"linear": lambda weight, neurons: 0 * cut.linear(weight, neurons)},
            "under flipped weights the cut is wrong",
        ),
    ],
)
def test_a_wrong_cut_is_found_out(change, why):
    proof = proof_of(Recut(FINAL, change))
    assert not proof.faithful
    assert why in proof.why


def test_a_layer_that_does_not_move_the_scores_proves_nothing():
    dense = flain_numpy.Dense
    wide = np.random.default_rng(0).normal(size=(5, X.shape[1]))
    initial, final = (
        flain_numpy.Network([dense("fc1", weight), dense("fc2", np.zeros((3, 5)), np.arange(3.0))])
        for weight in (wide, wide + 1)
    )
    proof = proof_of(final, initial)
    assert not proof.faithful
    assert proof.why == "flipping the layer's weights does not move the scores"


def test_a_weight_that_cannot_be_written_proves_nothing():
    class Closed(Recut):
        def replace(self, weights):
            raise flain.WeightsError("it is full")

    assert not proof_of(Closed(FINAL, lambda cut: {})).faithful


def test_scores_that_are_not_numbers_are_refused():
    lost = Recut(FINAL, lambda cut: {})
    lost.predict = lambda x: np.full((len(x), 3), np.nan)
    with pytest.raises(flain.DataError, match="NaN or infinity"):
        check_deterministic(lost, X, 1e-7)
