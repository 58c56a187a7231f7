"""What the layers of one purification share, and what a search must be confirmed by."""

import backdoored
import numpy as np
import pytest
from by_neurons import by_neurons
from recut import Recut

import flain_core as flain
import flain_numpy
from flain_core import Settings

# Great losses are allowed here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()


def purify(final=FINAL, **options):
    return flain.purify(final, **{"initial": INITIAL, "data": CLEAN} | options)


def head(weight):
    return flain_numpy.Network([flain_numpy.Dense("fc", np.array(weight, np.float32))])


def near_tie(margin, cut_error):
    """One of 40 samples is right by a margin; the cut is wrong by so much of each score."""
    x = np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (20, 1))
    x[0, 1] = 1 - margin
    x[1, 2] = 1
    y = np.tile([0, 1], 20)
    final = Recut(
        head([[1, 0, 0], [0, 1, 0.25]]),
        lambda cut: {"tail": lambda output: (1 + cut_error) * cut.tail(output)},
    )
    initial = head([[1, 0, 0], [0, 1, 0.5]])
    settings = by_neurons(0.5)
    (layer,) = flain.purify(
        final, initial=initial, data=(x, y), layers="fc", settings=settings
    ).layers
    assert layer.method == "incremental"
    return layer.steps[0].rounding


def test_what_the_proof_saw_the_cut_err_by_is_what_rounding_may_change():
    assert near_tie(1e-5, cut_error=0) == 1 / 40
    assert near_tie(1e-4, cut_error=0) == 0
    assert near_tie(1e-4, cut_error=5e-5) == 1 / 40


def forgetful(cut):
    """Right on the few samples of the proof; on more the tail forgets what it was given."""
    few = len(cut.inputs) <= 32
    return {} if few else {"tail": lambda _: cut.tail(cut.output), "tail_by_sample": None}


@pytest.mark.parametrize("flip", ["neurons", "auto"])
def test_a_score_that_was_not_as_promised_is_not_kept_also_where_it_is_allowed(flip):
    settings = Settings(measure="score", flip=flip, tolerance=1.0)
    (layer,) = purify(Recut(FINAL, forgetful), settings=settings).layers
    assert (layer.method, layer.flip) == ("whole network", "neurons")
    assert layer.why_method == "the purified model did not score what the cut had promised"
    assert layer.steps[-1].clean < 0.9


@pytest.mark.parametrize("tolerance", [0.02, 0.2, 0.4])
def test_later_layers_count_losses_from_the_trained_model(tolerance):
    result = purify(layers=["fc1", "fc2"], settings=by_neurons(tolerance))
    assert result.before.clean - result.after.clean <= tolerance + 1e-12


def test_what_is_reported_is_the_score_of_the_model_with_its_norm_matched():
    def worth(scores, y):
        return scores[np.arange(len(y)), y]

    settings = by_neurons(1.0, match_norm=True)
    result = purify(score=worth, settings=settings)
    norms = [np.linalg.norm(net.layers()["fc1"].weight) for net in (result.model, FINAL)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    expected = worth(result.model.predict(CLEAN[0]), CLEAN[1]).mean()
    assert result.after.clean == pytest.approx(expected, rel=1e-6)
