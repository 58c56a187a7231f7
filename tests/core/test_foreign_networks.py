"""Networks of someone else's: what they do wrong is found out, and the answer stays the same."""

from dataclasses import replace

import backdoored
import numpy as np
import pytest
from backdoored_purified import CLEAN, TRIGGERED, purify, weight
from by_neurons import BY_NEURONS, by_neurons
from recut import OtherCut

import flain_core as flain
import flain_numpy
from flain_core import Settings


@pytest.fixture(scope="module")
def pair():
    return backdoored.networks()


class Restless(flain_numpy.Network):
    """A network that scores differently each time."""

    def predict(self, x):
        return super().predict(x) + np.random.default_rng().normal(size=(len(x), 3))


def test_a_network_that_scores_at_random_is_refused(pair):
    with pytest.raises(flain.ModelError, match="differently each time"):
        purify((pair[0], Restless(pair[1].operations)))


class Opaque:
    """A network of someone else's, whose cut is wrong: its tail forgets what it was given."""

    def __init__(self, network):
        self.inner = network

    native = property(lambda self: self)

    def layers(self):
        return self.inner.layers()

    def predict(self, x):
        return self.inner.predict(x)

    def replace(self, weights, biases=None):
        return Opaque(self.inner.replace(weights, biases))

    def cut(self, layer, x):
        return WrongCut(self.inner.cut(layer, x))


class WrongCut:
    calls = 1

    def __init__(self, cut):
        self.cut, self.inputs, self.output = cut, cut.inputs, cut.output

    def linear(self, weight, neurons):
        return self.cut.linear(weight, neurons)

    def tail(self, output):
        return self.cut.tail(self.output)


@pytest.mark.parametrize("settings", [BY_NEURONS, Settings(flip="neurons")])
def test_a_wrong_cut_is_found_out_and_the_answer_is_the_same(pair, settings):
    common = {"probes": {"ASR": TRIGGERED}, "settings": settings}
    fast = purify(pair, **common)
    slow = flain.purify(Opaque(pair[1]), initial=Opaque(pair[0]), data=CLEAN, **common)
    assert slow.layers[0].method == "whole network"
    assert any("every candidate was run in full" in note for note in slow.notes)
    for one, other in zip(slow.layers[0].steps, fast.layers[0].steps, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.loss_error == pytest.approx(other.loss_error, abs=1e-6)
        unmeasured = {"loss": None, "loss_error": None}
        assert replace(one, **unmeasured) == replace(other, **unmeasured)
    np.testing.assert_array_equal(slow.layers[0].flipped, fast.layers[0].flipped)
    np.testing.assert_array_equal(weight(slow.model), weight(fast.model))
    assert slow.after == fast.after


class LateLiar(Opaque):
    """A network whose cut is right on the few samples of the proof and wrong on all of them."""

    def replace(self, weights, biases=None):
        return LateLiar(self.inner.replace(weights, biases))

    def cut(self, layer, x):
        cut = self.inner.cut(layer, x)
        return cut if len(x) <= 32 else WrongCut(cut)


def test_a_search_that_the_whole_network_does_not_confirm_is_done_again(pair):
    settings = by_neurons(0.01)
    fast = purify(pair, settings=settings)
    slow = flain.purify(LateLiar(pair[1]), initial=LateLiar(pair[0]), data=CLEAN, settings=settings)
    assert slow.layers[0].method == "whole network"
    assert "promised" in slow.layers[0].why_method
    np.testing.assert_array_equal(slow.layers[0].flipped, fast.layers[0].flipped)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_layer_that_runs_twice_is_run_in_full():
    rng = np.random.default_rng(5)
    first = rng.normal(size=(2, 12, 12)).astype(np.float32) / 3
    second = rng.normal(size=(3, 12)).astype(np.float32)

    def network(shared):
        block = flain_numpy.Dense("shared", shared)
        relu = flain_numpy.ReLU()
        return flain_numpy.Network([block, relu, block, relu, flain_numpy.Dense("out", second)])

    final = network(first[0] + 0.3 * first[1])
    y = final.predict(CLEAN[0]).argmax(axis=1)
    result = flain.purify(
        final, initial=network(first[0]), data=(CLEAN[0], y), settings=by_neurons(0.2)
    )
    assert result.layers[0].flipped.any()
    assert result.layers[0].method == "whole network"
    assert "2 times" in result.layers[0].why_method or "several" in result.layers[0].why_method
    really = final.replace({"shared": weight(result.model, "shared")}).predict(CLEAN[0])
    assert result.after.clean == (really.argmax(axis=1) == y).mean()


def test_a_network_that_cannot_be_confirmed_is_refused(pair):
    class Fickle(Opaque):
        """Scores all the samples otherwise when it is asked again, and the few of the proof not."""

        def replace(self, weights, biases=None):
            return Fickle(self.inner.replace(weights, biases))

        def predict(self, x):
            scores, asked = self.inner.predict(x), weight(self.inner).tobytes()
            if len(x) > 32 and asked in seen:
                return np.roll(scores, 1, axis=1)
            seen.add(asked)
            return scores

        def cut(self, layer, x):
            return OtherCut(self.inner.cut(layer, x), lambda _: {"calls": 2})

    seen = set()
    # It is right about nearly half of the samples whenever it is asked again, first about the rest.
    x, y = CLEAN[0], np.where(np.arange(len(CLEAN[1])) % 20 < 9, (CLEAN[1] + 1) % 3, CLEAN[1])
    with pytest.raises(flain.ModelError, match="differently each time"):
        flain.purify(Fickle(pair[1]), initial=pair[0], data=(x, y), batch_size=len(y))


def test_a_networks_save_is_asked_for_by_its_backend(pair, tmp_path):
    result = flain.purify(Opaque(pair[1]), initial=Opaque(pair[0]), data=CLEAN)
    with pytest.raises(flain.OutputError, match=r"result\.model"):
        result.save(tmp_path / "a.npz")


def test_an_incomplete_network_is_told_what_it_lacks(pair):
    class Half:
        layers = predict = cut = replace = None

    with pytest.raises(flain.ModelError, match="lacks native"):
        flain.purify(Half(), initial=pair[0], data=CLEAN)
