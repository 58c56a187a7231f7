"""Models of two classes with one output or with two, through the whole purification."""

from itertools import pairwise

import backdoored
import numpy as np
import pytest
from by_neurons import BY_NEURONS

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_numpy import Dense, Network, ReLU, Sigmoid, Softmax

WIDTHS = (12, 10, 2)


def two_classes(count, seed):
    """Return the samples of classes 0 and 2; class 2, the attacker's, is called 1."""
    x, y = backdoored.samples(count, seed)
    chosen = y != 1
    return x[chosen], y[chosen] // 2


def trained():
    rng = np.random.default_rng(4)
    initial = [
        (rng.normal(0, np.sqrt(2 / n_in), (n_out, n_in)), np.zeros(n_out))
        for n_in, n_out in pairwise(WIDTHS)
    ]
    clean_x, clean_y = two_classes(900, 5)
    bad_x, bad_y = backdoored.triggered(300, 6)
    x, y = np.vstack([clean_x, bad_x]), np.concatenate([clean_y, bad_y // 2])
    return initial, backdoored.trained(initial, x, y)


INITIAL, FINAL = trained()
X, Y = two_classes(900, 21)
TRIGGERED = backdoored.triggered(200, 22)[0]
PROBES = {"ASR": (TRIGGERED, np.ones(len(TRIGGERED), int))}


def network(parameters, kind):
    """The same function of the samples, whatever its outputs are."""
    (first, first_bias), (last, last_bias) = parameters
    if kind in ("logit", "sigmoid"):
        last, last_bias = last[1:] - last[:1], last_bias[1:] - last_bias[:1]
    end = {"sigmoid": [Sigmoid()], "softmax": [Softmax()]}.get(kind, [])
    layers = [
        Dense(name, weight.astype(np.float32), bias.astype(np.float32))
        for name, weight, bias in (("fc1", first, first_bias), ("fc2", last, last_bias))
    ]
    return Network([layers[0], ReLU(), layers[1], *end])


@pytest.mark.parametrize("kind", ["logit", "logits", "softmax", "sigmoid"])
def test_what_speaks_for_one_class_speaks_against_the_other(kind):
    (layer,) = purify(kind).layers
    assert layer.class_share > 0.35
    assert layer.most_flipped_class is None


def purify(kind, *, y=Y, **options):
    final, initial = network(FINAL, kind), network(INITIAL, kind)
    return flain.purify(final, initial=initial, data=(X, y), **options)


@pytest.fixture(scope="module")
def of_two_logits():
    return purify("two logits", probes=PROBES)


def test_the_backdoor_of_two_logits_goes(of_two_logits):
    assert of_two_logits.before.clean > 0.97
    assert of_two_logits.before.probes["ASR"] > 0.95
    assert of_two_logits.after.probes["ASR"] < 0.1
    assert of_two_logits.after.clean > of_two_logits.before.clean - 0.01
    assert of_two_logits.verdict == "flipped"
    assert of_two_logits.layers[0].flip == "directions"
    assert of_two_logits.promise.loss < 0.1


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("kind", ["logit", "sigmoid", "softmax"])
def test_what_the_outputs_are_does_not_change_the_answer(kind, stated, of_two_logits):
    outputs = "logits" if kind == "logit" else "probabilities"
    result = purify(kind, probes=PROBES, outputs=outputs if stated else None)
    expected = of_two_logits
    assert result.before == expected.before
    assert result.after == expected.after
    assert result.layers[0].threshold == expected.layers[0].threshold
    assert result.promise == expected.promise
    # A sigmoid that is rounded to 1 says less of the outputs than its logit.
    near = 20 if kind == "sigmoid" else 1
    for one, other in zip(result.layers[0].steps, expected.layers[0].steps, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=near * 1e-5)
    np.testing.assert_allclose(
        result.model.layers()["fc1"].weight,
        expected.model.layers()["fc1"].weight,
        rtol=0,
        atol=near * 1e-4,
    )
    told = [note for note in result.notes if "read as" in note]
    assert len(told) == (0 if stated else 1)


@pytest.mark.parametrize("settings", [None, BY_NEURONS, Settings(flip="neurons")])
@pytest.mark.parametrize("kind", ["logit", "sigmoid"])
@pytest.mark.parametrize(
    "labels", [Y.astype(np.float32), Y.astype(bool), Y[:, None].astype(np.float64)]
)
def test_labels_may_be_written_as_losses_of_one_output_want_them(kind, labels, settings):
    one, other = purify(kind, y=labels, settings=settings), purify(kind, settings=settings)
    assert one.before == other.before
    assert one.layers[0].steps == other.layers[0].steps


@pytest.mark.parametrize("settings", [None, BY_NEURONS, Settings(flip="neurons")])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.filterwarnings("ignore:the model is right about:flain_core.FlainWarning")
def test_small_batches_are_read_as_all_samples_are(batch_size, settings):
    """A single logit from 0 to 1 could as well be a probability; all of them could not."""
    final, initial = network(FINAL, "logit"), network(INITIAL, "logit")
    last = final.layers()["fc2"]
    final = final.replace({"fc2": last.weight / 8}, {"fc2": last.bias / 8})
    order = np.argsort(np.abs(final.predict(X)[:, 0] - 0.5), kind="stable")
    assert ((final.predict(X[order[:3]]) > 0) & (final.predict(X[order[:3]]) < 1)).all()
    options = {"data": (X[order], Y[order]), "settings": settings}
    one = flain.purify(final, initial=initial, batch_size=batch_size, **options)
    other = flain.purify(final, initial=initial, **options)
    assert one.before == other.before
    assert one.after == other.after
    assert one.promise == other.promise
    assert one.layers[0].threshold == other.layers[0].threshold


def test_a_class_that_one_output_does_not_have_is_refused():
    with pytest.raises(flain.DataError, match="expected labels from 0 to 1"):
        purify("sigmoid", y=2 * Y)


@pytest.mark.parametrize("kind", ["two logits", "logit"])
def test_what_is_stated_to_be_probabilities_and_is_none_is_refused(kind):
    with pytest.raises(flain.DataError, match="expected probabilities, from 0 to 1, as stated"):
        purify(kind, outputs="probabilities")


def test_probabilities_that_do_not_sum_to_one_are_refused_where_they_are_stated():
    def sigmoids(parameters):
        return Network([*network(parameters, "two logits").operations, Sigmoid()])

    with pytest.raises(flain.DataError, match="sum to one in each sample, as stated"):
        flain.purify(
            sigmoids(FINAL), initial=sigmoids(INITIAL), data=(X, Y), outputs="probabilities"
        )
    result = flain.purify(sigmoids(FINAL), initial=sigmoids(INITIAL), data=(X, Y))
    assert any("do not sum to one" in note for note in result.notes)
    assert any("so its accuracy steered the search" in note for note in result.notes)
    assert not result.warnings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outputs": "probability"}, "Did you mean 'probabilities'"),
        ({"outputs": 1}, "expected outputs to be one of"),
        ({"outputs": "logits", "score": lambda scores, y: scores[:, 0]}, "describes a classifier"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(options, words):
    with pytest.raises(flain.SettingsError, match=words):
        purify("logit", **options)


def test_labels_the_other_way_round_are_pointed_out():
    with pytest.warns(FlainWarning) as raised:
        purify("sigmoid", y=1 - Y)
    assert any("no better than chance" in str(warning.message) for warning in raised)
