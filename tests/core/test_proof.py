"""A cut that is wrong in any way is found out, with the reason."""

import backdoored
import numpy as np
import pytest
from by_neurons import by_neurons
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


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_tail_that_is_wrong_when_run_again_is_found_out(wrong):
    def change(cut):
        runs = []

        def tail(output):
            runs.append(output)
            return cut.tail(output) + (0.5 if len(runs) == wrong else 0)

        return {"tail": tail}

    proof = proof_of(Recut(FINAL, change))
    assert not proof.faithful
    assert "the cut disagrees with the whole network" in proof.why
    assert 0 < proof.error < 1


def test_the_seed_decides_which_neurons_are_flipped_together():
    def halves(seed):
        seen = []

        def change(cut):
            def linear(weight, neurons):
                seen.append(tuple(neurons))
                return cut.linear(weight, neurons)

            return {"linear": linear}

        final, data = Recut(FINAL, change), backdoored.samples(300, seed=11)
        result = flain.purify(final, initial=INITIAL, data=data, settings=by_neurons(), seed=seed)
        assert result.layers[0].method == "incremental"
        return seen[:2]

    first, second = halves(seed=3)
    assert sorted(first + second) == list(range(12))
    assert abs(len(first) - len(second)) <= 1
    assert halves(seed=3) == [first, second]
    assert halves(seed=4) != [first, second]


def two_neurons(change, moves=(6.5e-4, 6.5e-4)):
    """The proof of a layer of two neurons; each of them moves the greatest score by 0.13 %."""
    initial, final = (
        flain_numpy.Network([flain_numpy.Dense("fc", np.array([row, [0.1, 0.1]]))])
        for row in ([0.5 - moves[0], 0.5 - moves[1]], [0.5, 0.5])
    )
    layer = final.layers()["fc"]
    network = Recut(final, change)
    flipping = FlippingOrder(network, layer, initial.layers()["fc"].weight, 2.0, np.arange(2))
    return prove(flipping, np.ones((4, 2)))


@pytest.mark.parametrize("neuron", [0, 1])
def test_a_cut_that_is_wrong_about_a_single_neuron_is_found_out(neuron):
    assert two_neurons(lambda cut: {}).faithful

    def change(cut):
        return {"linear": lambda weight, some: (neuron not in some) * cut.linear(weight, some)}

    proof = two_neurons(change)
    assert "under flipped weights" in proof.why
    assert 0 < proof.error < 1


@pytest.mark.parametrize("moves", [(1, 0), (0, 1)])
def test_one_half_that_moves_the_scores_is_proof_enough(moves):
    assert two_neurons(lambda cut: {}, moves).faithful
    wrong = two_neurons(lambda cut: {"linear": lambda weight, some: np.zeros((4, 2))}, moves)
    assert "under flipped weights" in wrong.why


def test_an_error_is_compared_with_how_far_the_scores_move():
    """Small errors of the scores are large ones of what the flip does."""
    for share, faithful in ((0.96, True), (0.94, False)):

        def change(cut, share=share):
            return {"linear": lambda weight, some: share * cut.linear(weight, some)}

        assert two_neurons(change).faithful is faithful


@pytest.mark.parametrize(("error", "faithful"), [(5e-5, True), (2e-4, False)])
def test_a_score_may_be_off_by_a_ten_thousandth_of_the_greatest(error, faithful):
    largest = np.abs(FINAL.predict(X)).max()

    def change(cut):
        return {"tail": lambda output: cut.tail(output) + np.float32(error * largest)}

    assert proof_of(Recut(FINAL, change)).faithful is faithful


@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_compared_are_the_flipped_weights_as_they_are_written(groups):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 4, 6 // groups, 1, 1)).astype(np.float16)
    initial, final = (
        flain_numpy.Network([flain_numpy.Conv2d("conv", each, groups=groups)]) for each in weights
    )
    written = []

    class Watched(Recut):
        def replace(self, weights):
            written.append(weights["conv"])
            return super().replace(weights)

    layer, start = final.layers()["conv"], initial.layers()["conv"].weight
    network, halves = Watched(final, lambda cut: {}), np.random.default_rng(7).permutation(6)
    order = FlippingOrder(network, layer, start, 2.0, np.arange(3))
    prove(order, rng.normal(size=(4, 6, 1, 1)), seed=7)
    for half, weight in zip((halves[:3], halves[3:]), written, strict=True):
        assert weight.dtype == np.float16
        np.testing.assert_array_equal(weight, flain.flip(start, layer.weight, half, groups=groups))


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


@pytest.mark.parametrize(
    ("kind", "initial", "final"), [(np.float16, -40, 40), (np.float32, -3e38, 3e38)]
)
def test_a_weight_that_no_flip_keeps_in_range_proves_nothing(kind, initial, final):
    start, end = (
        flain_numpy.Network(
            [
                flain_numpy.Dense("fc1", np.full((5, X.shape[1]), value, kind)),
                flain_numpy.Dense("fc2", np.zeros((3, 5), kind), np.arange(3.0, dtype=kind)),
            ]
        )
        for value in (initial, final)
    )
    x = np.zeros_like(X, dtype=kind)
    layer = end.layers()["fc1"]
    order = FlippingOrder(end, layer, start.layers()["fc1"].weight, 2.0, np.arange(3))
    assert not prove(order, x).faithful


def test_a_weight_that_cannot_be_written_proves_nothing():
    class Closed(Recut):
        def replace(self, weights):
            raise flain.WeightsError("it is full")

    assert not proof_of(Closed(FINAL, lambda cut: {})).faithful


def test_scores_that_are_not_numbers_are_refused():
    lost = Recut(FINAL, lambda cut: {})
    lost.predict = lambda x: np.full((len(x), 3), np.nan)
    with pytest.raises(flain.DataError, match="NaN or infinity"):
        check_deterministic(lost, X, X[:8], 1e-7)


def test_scores_that_depend_on_the_samples_beside_are_refused():
    beside = Recut(FINAL, lambda cut: {})
    beside.predict = lambda x: FINAL.predict(x - x.mean(axis=0))
    with pytest.raises(flain.ModelError, match=r"differently beside others.*batch normalisation"):
        check_deterministic(beside, X, X[:8], 1e-7)
    with pytest.raises(flain.ModelError, match="differently beside others"):
        flain.purify(beside, initial=INITIAL, data=backdoored.samples(100, seed=5))


def test_scores_that_differ_each_time_are_refused():
    drawn = Recut(FINAL, lambda cut: {})
    random = np.random.default_rng(0)
    drawn.predict = lambda x: FINAL.predict(x) + random.normal(size=(len(x), 3))
    with pytest.raises(flain.ModelError, match=r"differently each time.*dropout"):
        check_deterministic(drawn, X, X[:8], 1e-7)
