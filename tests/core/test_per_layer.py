"""What the layers of one purification share, and what a search must be confirmed by."""

from dataclasses import replace
from types import SimpleNamespace

import backdoored
import numpy as np
import pytest
from by_neurons import by_neurons
from recut import Recut

import flain_core as flain
import flain_numpy
from flain_core import Settings, per_layer
from flain_core.schedule import Schedule
from flain_core.search import search
from flain_core.tallies import Loss, Scored, Tally

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
    result = purify(Recut(FINAL, forgetful), settings=settings)
    (layer,) = result.layers
    assert not any("directions need" in note for note in result.notes)
    assert (layer.method, layer.flip) == ("whole network", "neurons")
    assert layer.why_method == "the purified model did not score what the cut had promised"
    assert layer.steps[-1].clean < 0.9


def steps_of(count):
    """The steps of a search whose candidates lose one more of 100 samples each time."""
    candidates = SimpleNamespace(
        lookahead=1, advance=lambda some: [Scored(Tally(100 - n, 100)) for n in some]
    )
    schedule = Schedule.of(np.arange(1.0, count + 1))
    return search(schedule, candidates, by_neurons(1.0), Scored(Tally(100, 100)))


class Keeping:
    """Samples held back, on which so many of the candidates that are tried keep the promise."""

    def __init__(self, kept):
        self.kept, self.tried = kept, None

    def furthest(self, candidates):
        self.tried = [candidate() for candidate in candidates]
        return min(self.kept, len(candidates))


def promised(found, held_back, promise=0.01):
    flipping = SimpleNamespace(candidate=lambda number: number)
    settings = Settings(promise=promise)
    context = SimpleNamespace(scorer=SimpleNamespace(held_back=held_back), settings=settings)
    return per_layer._promised(found, flipping, context)


def test_a_promise_is_tested_on_the_candidates_up_to_the_chosen_one():
    found = steps_of(5)
    chosen = replace(found, permitted=range(4), reason="tolerance")
    samples = Keeping(2)
    kept = promised(chosen, samples)
    assert samples.tried == [1, 2, 3, 4]
    assert (kept.step, kept.number, kept.reason) == (found.steps[1], 2, "promise")
    assert kept.steps == found.steps
    none = promised(chosen, Keeping(0))
    assert (none.step, none.number, none.reason) == (None, 0, "promise")
    assert promised(chosen, Keeping(4)) == chosen


def test_of_very_many_candidates_some_are_tested_and_the_chosen_one_is_among_them():
    for count, tried in ((32, range(1, 33)), (33, range(1, 34, 2)), (70, range(1, 71, 3))):
        found, samples = steps_of(count), Keeping(100)
        assert promised(found, samples) == found
        assert samples.tried == list(tried)
    kept = promised(steps_of(70), Keeping(2))
    assert (kept.number, kept.step.neurons_flipped) == (4, 4)


def test_without_a_promise_or_a_choice_none_is_tested():
    found = steps_of(5)
    assert promised(found, None) == found
    assert promised(found, Keeping(0), promise=None) == found
    left = replace(found, permitted=(), reason="nothing within tolerance")
    assert promised(left, Keeping(0)) == left


def confirms(promised, after, *, written=None, rounding=0, **options):
    """Whether a search is confirmed that said so many of 100 samples are right, and lost 2."""
    found = steps_of(5)
    step = replace(found.steps[1], clean=promised / 100, rounding=rounding / 100)
    reason = "tolerance" if options.get("crossing") == "keep" else "exhausted"
    steps = (found.steps[0], step, *found.steps[2:])
    found = replace(found, steps=steps, permitted=range(2), reason=reason)
    before, settings = Scored(Tally(100, 100)), by_neurons(0.015, **options)
    return per_layer._confirms(found, written, settings, before, Scored(Tally(after, 100)))


def test_a_search_is_confirmed_by_what_the_whole_network_scores():
    assert confirms(99, 99)
    assert not confirms(99, 100)
    assert confirms(99, 100, rounding=1)
    # The right score does not help where it loses too much; a search that keeps what does, asks so.
    assert not confirms(98, 98)
    assert confirms(98, 98, crossing="keep")
    assert not confirms(99, 99, crossing="keep")


def test_a_search_that_chose_nothing_needs_no_confirmation():
    nothing = replace(steps_of(5), permitted=(), reason="nothing within tolerance")
    scored = Scored(Tally(100, 100))
    assert per_layer._confirms(nothing, None, by_neurons(0.01), scored, scored)


def test_what_was_written_is_confirmed_within_its_rounding_and_the_tolerance():
    def written(total, uncertain=0):
        return Scored(Tally(total, 100, uncertain))

    assert confirms(50, 99, written=written(99))
    assert not confirms(99, 99, written=written(100))
    assert confirms(99, 99, written=written(100, 1))
    assert not confirms(98, 98, written=written(98))
    assert confirms(98, 98, written=written(98), crossing="keep")


def test_directions_are_confirmed_by_the_score_of_what_was_written():
    """The search scores samples as if they had had no part in the fit, which no model does."""
    x, y = backdoored.samples(100, seed=11)
    x = x + np.random.default_rng(0).normal(0, 0.8, x.shape).astype(np.float32)
    result = purify(data=(x, y), settings=Settings(tolerance=0.2, held_back=0))
    (layer,) = result.layers
    chosen = {step.clean for step in layer.steps if step.threshold == layer.threshold}
    assert len(chosen | {result.before.clean, result.after.clean}) == 3
    assert (layer.flip, layer.method) == ("directions", "incremental")


def test_directions_take_ten_samples_and_a_flip_that_allows_them():
    def space(count, flip):
        return per_layer._space(FINAL.layers()["fc1"], CLEAN[0][:count], Settings(flip=flip))

    assert space(10, "auto") is not None
    assert space(9, "auto") is None
    assert space(10, "neurons") is None


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


def lost(layer):
    """What the chosen candidate lost, and the share that it flips for a class."""
    (step,) = (each for each in layer.steps if each.threshold == layer.threshold)
    assert step.class_share == pytest.approx(layer.class_share, rel=1e-5)
    return step.loss + step.loss_error, step.class_share


def test_later_layers_get_the_limit_that_the_first_one_had_in_the_end():
    x, y = backdoored.samples(60, seed=11)
    noisy = x + np.random.default_rng(0).normal(0, 0.3, x.shape)
    first, later = purify(data=(noisy, y), layers=["fc1", "fc2"]).layers
    (loss, share), (loss_later, share_later) = lost(first), lost(later)
    limit = Settings().allowed(0.06, share)
    assert min(loss, loss_later) > 0.003
    assert max(loss, loss_later) <= limit == pytest.approx(0.0121, rel=0.01)
    assert share_later > 0
    # So much was flipped here that no more than the usual may be lost.
    first, later = purify(data=(x, y), layers=["fc1", "fc2"]).layers
    (_, share), (loss_later, share_later) = lost(first), lost(later)
    assert 0 < loss_later <= 0.003
    assert share > 0.35 > 0.22 > share_later


def test_a_first_layer_that_was_left_as_it_is_allows_no_more_to_later_ones():
    (layer,) = purify().layers
    left = replace(layer, share=0.0, class_share=0.0)
    before = Scored(Tally(9, 10), loss=Loss(before=9.9, count=10))
    first = SimpleNamespace(outcomes=[left], before=before)
    assert per_layer._for_later_layers(Settings(), first).tolerance == 0.003


def test_what_was_written_is_confirmed_within_the_limit_of_its_share():
    before = Scored(Tally(100, 100), loss=Loss(before=100.0, count=100))
    after = Scored(Tally(100, 100), loss=Loss(total=0.5, square=0.0025, before=100.0, count=100))
    found = SimpleNamespace(step=None, reason="tolerance")
    for share, confirmed in ((0.4, False), (0.1, True)):
        written = replace(after, class_share=share)
        settings = Settings(measure="probability")
        assert per_layer._confirms(found, written, settings, before, after) == confirmed
