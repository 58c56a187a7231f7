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


class Forgetful(Opaque):
    """Its weights become zero, whatever they are replaced by."""

    def replace(self, weights, biases=None):
        nothing = {name: 0 * weight for name, weight in weights.items()}
        return Forgetful(self.inner.replace(nothing, biases))


class InOtherUnits(Opaque):
    """Its layers show a hundred times their weights."""

    def layers(self):
        return {
            name: replace(layer, weight=100 * layer.weight)
            for name, layer in self.inner.layers().items()
        }

    def replace(self, weights, biases=None):
        return InOtherUnits(self.inner.replace(weights, biases))


@pytest.mark.parametrize("wrong", [Forgetful, InOtherUnits])
def test_a_weight_that_is_not_what_it_seems_is_found_out(pair, wrong):
    with pytest.raises(flain.ModelError, match=r"replaced by its own weight.*conformance"):
        purify(tuple(map(wrong, pair)))


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (lambda scores: scores.tolist(), "got list"),
        (lambda scores: None, "got NoneType"),
        (lambda scores: scores.astype(str), "got <U32"),
        (lambda scores: scores.astype(complex), "got complex128"),
    ],
)
def test_scores_of_another_type_are_refused(pair, scores, told):
    class Scores(Opaque):
        def predict(self, x):
            return scores(self.inner.predict(x))

    with pytest.raises(flain.ModelError, match=f"score with a NumPy array.*{told}"):
        purify(tuple(map(Scores, pair)))


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (list, r"expected the network's layers\(\) to return a dict"),
        (lambda layers: {n: each.weight for n, each in layers.items()}, "dict of flain.Layer"),
    ],
)
def test_layers_of_another_form_are_refused(pair, layers, told):
    class Shows(Opaque):
        def layers(self):
            return layers(self.inner.layers())

    with pytest.raises(flain.ModelError, match=told):
        purify(tuple(map(Shows, pair)))


@pytest.mark.parametrize(
    ("weight", "bias", "told"),
    [
        ([[1.0]], None, "expected weight.*gave a value of type list"),
        (np.ones(3), None, r"expected weight.*gave float64 of shape \(3,\)"),
        (np.ones((2, 3), int), None, r"expected weight.*gave int64"),
        (np.ones((2, 3), object), None, "expected weight.*gave object"),
        (np.ones((2, 3)), np.ones((2, 1)), r"expected bias as a NumPy array \(out,\).*\(2, 1\)"),
        (np.ones((2, 3)), [0.0, 0.0], "expected bias.*list"),
    ],
)
def test_a_layer_of_another_form_is_refused(weight, bias, told):
    with pytest.raises(flain.ModelError, match=told):
        flain.Layer("fc", "dense", weight, bias=bias)


def test_a_bias_of_another_length_is_refused(pair):
    class Longer(Opaque):
        def layers(self):
            return {
                name: replace(each, bias=np.append(each.bias, each.bias[:1]))
                for name, each in self.inner.layers().items()
            }

    with pytest.raises(flain.ModelError, match=r"'fc1' has 10 outputs and shows a bias of 11"):
        purify(tuple(map(Longer, pair)))
