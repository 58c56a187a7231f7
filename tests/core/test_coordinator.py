"""Auxiliary samples in several hands give the answer that they give in one."""

import backdoored
import numpy as np
import pytest
from coordinated import CLEAN, FINAL, INITIAL, assert_same, in_one_place, purify
from hypothesis import given
from hypothesis import strategies as st
from in_process import InProcess, as_elsewhere, split
from recut import Recut

import flain_core as flain
from flain_core import ActivationStatistics, FlainWarning, Grid, Settings
from flain_core.conformance.never_cut import never_cut
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import Holder
from flain_core.federated.merging import Merging
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.federated.wire import read_answer, read_question, write_answer, write_question
from flain_core.local_samples import LocalSamples
from flain_core.sample_source import SampleFacts
from flain_core.tallies import Scored, Tally

HITS = Settings(measure="score")
SETTINGS = {
    "default": {},
    "hits": {"settings": HITS},
    "probability, several layers": {"layers": "all"},
    "published": {"settings": Settings.published("mnist")},
    "grid": {"settings": Settings(thresholds=Grid(start=0, step=0.01, stop=2), tolerance=0.1)},
    "rms": {"settings": Settings(statistic="rms", tolerance=0.05)},
    "several layers": {"layers": "all", "settings": Settings(tolerance=0.05)},
}


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("lookahead", [1, 5])
def test_the_answer_is_that_of_one_place(options, parts, lookahead):
    spread, size = split(CLEAN, parts)
    holders = InProcess(spread, lookahead=lookahead)
    result = purify(CoordinatedSamples(holders), **options)
    assert_same(result, in_one_place(CLEAN, batch_size=size, **options))
    assert result.layers[0].method == "incremental"


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_holder_that_forgets_answers_alike(options):
    spread, size = split(CLEAN, 3)
    forgetful = InProcess(spread, forgetful=True, lookahead=4)
    result = purify(CoordinatedSamples(forgetful), **options)
    assert_same(result, in_one_place(CLEAN, batch_size=size, **options))


def test_samples_elsewhere_are_measured_by_the_probability_unless_told_otherwise():
    samples = CoordinatedSamples(InProcess(split(CLEAN, 2)[0]))
    result = purify(samples)
    assert (result.settings.measure, result.settings.flip) == ("probability", "neurons")
    assert (result.settings.held_back, result.promise) == (0, None)
    assert any("all of those that lie elsewhere steer the search" in note for note in result.notes)
    assert purify(samples, settings=HITS).settings.measure == "score"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(promise=0.05), "a promise needs samples in this process"),
        (Settings(held_back=0.2), "a promise needs samples in this process"),
        (Settings(flip="directions"), "flipping in directions needs samples in this process"),
    ],
)
def test_what_needs_the_samples_themselves_is_refused(settings, told):
    holders = InProcess(split(CLEAN, 2)[0])
    with pytest.raises(flain.SettingsError, match=told):
        purify(CoordinatedSamples(holders), settings=settings)
    assert not holders.asked


def test_nothing_of_single_samples_is_sent():
    """An answer is as long for one sample as for many."""

    def shapes(parts):
        seen = {}

        def note(name, question, arrays):
            seen.update({key: array.shape for key, array in arrays.items() if key != "why"})
            return arrays

        purify(CoordinatedSamples(InProcess(parts, lookahead=50, tamper=note)))
        return {
            key: shape[1:] if key in ("clean", "loss") else shape for key, shape in seen.items()
        }

    few, many = (shapes(split(backdoored.samples(n, seed=11), 2)[0]) for n in (120, 300))
    assert few == many
    assert (few["clean"], few["loss"]) == ((3,), (6,))


def test_a_network_that_cannot_be_cut_is_run_in_full_everywhere():
    spread, size = split(CLEAN, 2)
    result = purify(CoordinatedSamples(InProcess(spread)), final=never_cut(FINAL))
    assert result.layers[0].method == "whole network"
    assert "several times" in result.layers[0].why_method
    expected = in_one_place(CLEAN, batch_size=size)
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)


def test_looking_ahead_saves_questions():
    spread, _ = split(CLEAN, 2)
    one, many = InProcess(spread), InProcess(spread, lookahead=50)
    purify(CoordinatedSamples(one))
    purify(CoordinatedSamples(many))
    assert len(many.asked) < len(one.asked) / 2


def test_probes_and_scores_belong_to_the_holders():
    samples = CoordinatedSamples(InProcess(split(CLEAN, 2)[0]))
    with pytest.raises(flain.SettingsError, match="CoordinatedSamples, which holds the samples"):
        purify(samples, probes={"ASR": CLEAN})


class Holds:
    """One part in each holder, probes included, without arrays on the way."""

    lookahead = 4

    def __init__(self, *parts):
        self.parts = parts

    def open(self, network):
        self.holder = Holder(network, *self.parts)

    def ask(self, question):
        answers = self.holder.answers(question)
        return {f"part {number}": answer for number, answer in enumerate(answers)}


def test_a_holder_may_have_no_samples_of_a_probe():
    parts, size = split(CLEAN, 3)
    probe = backdoored.triggered(60, seed=5)
    first, *others = parts
    holders = Holds(LocalSamples.of(first, probes={"ASR": probe}), *map(LocalSamples.of, others))
    result = purify(CoordinatedSamples(holders, probes=("ASR",)))
    assert_same(result, in_one_place(CLEAN, probes={"ASR": probe}, batch_size=size))
    assert result.before.probes["ASR"] > result.after.probes["ASR"]


def test_a_probe_that_nobody_has_samples_of_is_an_error():
    holders = Holds(*(LocalSamples.of(part) for part in split(CLEAN, 2)[0]))
    with pytest.raises(flain.DataError, match=r"no holder .* measured the probes \['ASR'\]"):
        purify(CoordinatedSamples(holders, probes=("ASR",)))


def test_a_probe_that_nobody_asked_for_is_an_error():
    probe = backdoored.triggered(60, seed=5)
    holders = Holds(LocalSamples.of(CLEAN, probes={"ASR": probe}))
    with pytest.raises(flain.DataError, match=r"expected no probes but \[\]; got \['ASR'\]"):
        purify(CoordinatedSamples(holders))


@pytest.mark.filterwarnings("ignore:not flipped:flain_core.FlainWarning")
def test_what_is_known_of_the_samples_is_remarked_on():
    rng = np.random.default_rng(0)
    data = CLEAN[0], rng.integers(0, 3, len(CLEAN[1]))
    facts = SampleFacts(classes=3, one_hot=True)
    holders = Holds(LocalSamples.of(data))
    with pytest.warns(FlainWarning, match="no better than chance"):
        result = purify(CoordinatedSamples(holders, facts=facts), settings=HITS)
    assert any("one-hot" in note for note in result.notes)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_merged_sums_are_those_of_all_samples(sizes, seed):
    inputs = np.random.default_rng(seed).integers(-3, 9, (sum(sizes), 4)).astype(np.float32)
    parts = np.split(inputs, np.cumsum(sizes)[:-1])
    each = [ActivationStatistics().update(part) for part in parts]
    merged = Merging(largest_share=1).statistics(each)
    whole = ActivationStatistics().update(inputs)
    for name in ("total", "total_abs", "total_square", "active", "count"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))


def test_a_holder_may_fall_silent_in_the_middle_of_a_search():
    parts, size = split(CLEAN, 3)
    holders = InProcess(parts)

    def answers(question):
        every = InProcess.ask(holders, question)
        if len(holders.asked) > 6:
            del every["part 000"]
        return every

    holders.ask = answers
    with pytest.warns(FlainWarning, match="part 000, .*: no answer came"):
        result = purify(CoordinatedSamples(holders, may_leave=True))
    rest = tuple(np.concatenate([parts[1][i], parts[2][i]]) for i in (0, 1))
    assert_same(result, in_one_place(rest, batch_size=size))


def test_an_answer_of_another_type_is_none():
    class Talks(Holds):
        def ask(self, question):
            return {"part 0": "hello"}

    with pytest.raises(flain.DataError, match=r"part 0, .*: no answer came"):
        purify(CoordinatedSamples(Talks(LocalSamples.of(CLEAN))))


def test_scores_may_be_asked_for_before_statistics():
    samples = LocalSamples.of(CLEAN)
    settings = as_elsewhere().resolved(classify=True, local=False)
    scorer = CoordinatedSamples(Holds(samples)).scorer(FINAL, settings, seed=0)
    there, here = scorer.score_of(FINAL), samples.scorer(FINAL, settings, seed=0).score_of(FINAL)
    assert (there.clean, there.loss) == (here.clean, here.loss)


def test_options_out_of_range_are_refused():
    with pytest.raises(flain.SettingsError, match="least, in holders,"):
        CoordinatedSamples(Holds(), least=0)
    with pytest.raises(flain.SettingsError, match="a trim from 0 to less"):
        Merging("trimmed_mean", trim="0.2")


NAME = next(iter(FINAL.layers()))
FIRST = INITIAL.layers()[NAME].weight
ORDER = np.arange(FIRST.shape[1])
NONSENSE = {
    "an unknown layer": (ModelState({}, "fc9", FIRST, order=ORDER), (1,), flain.LayerError),
    "no initial weight": (ModelState({}, NAME, None, order=ORDER), (1,), flain.WeightsError),
    "one of another shape": (ModelState({}, NAME, FIRST.T, order=ORDER), (1,), flain.WeightsError),
    "neurons that are not there": (
        ModelState({}, NAME, FIRST, order=ORDER + 1),
        (1,),
        flain.DataError,
    ),
    "neurons from the end": (ModelState({}, NAME, FIRST, order=ORDER - 1), (1,), flain.DataError),
    "more than the order has": (ModelState({}, NAME, FIRST, order=ORDER), (99,), flain.DataError),
    "fewer than none": (ModelState({}, NAME, FIRST, order=ORDER), (-1,), flain.DataError),
    "fewer and fewer": (ModelState({}, NAME, FIRST, order=ORDER), (3, 1), flain.DataError),
}


@pytest.mark.parametrize("task", ["candidates", "in full"])
@pytest.mark.parametrize(("state", "n_flipped", "error"), NONSENSE.values(), ids=NONSENSE)
def test_a_holder_refuses_questions_that_make_no_sense(task, state, n_flipped, error):
    with pytest.raises(error):
        Holder(FINAL, LocalSamples.of(CLEAN)).answer(Question(task, state, n_flipped))


def test_a_holder_refuses_to_score_no_candidates():
    state = ModelState({}, NAME, FIRST, order=ORDER)
    with pytest.raises(flain.DataError, match=r"candidates in ascending order.*; got \(\)"):
        Holder(FINAL, LocalSamples.of(CLEAN)).answer(Question("candidates", state))


def test_trimming_everybody_is_refused():
    told = r"nothing is left of 2 holders .*needs at least 3"
    with pytest.raises(flain.SettingsError, match=told):
        Merging("trimmed_mean", trim=0.4).tally([Tally(1, 2), Tally(2, 2)])
    with pytest.raises(flain.SettingsError, match=r"less than 0\.5"):
        Merging("trimmed_mean", trim=0.5)
    with pytest.raises(flain.SettingsError, match="median"):
        Merging("medium")


# The wire.


def test_a_question_arrives_as_it_was_asked():
    weights = {"fc1": np.ones((2, 3), np.float32), "wörter": np.zeros((1, 2))}
    state = ModelState(weights, "fc1", np.eye(2, 3), 1.5, np.array([2, 0]), 1e-4)
    question = Question("candidates", state, n_flipped=(0, 1, 2), probes=False, seed=7, loss=True)
    arrived = read_question(write_question(question))
    assert (arrived.task, arrived.n_flipped) == (question.task, question.n_flipped)
    assert (arrived.probes, arrived.seed, arrived.loss) == (False, 7, True)
    assert arrived.state.digest == state.digest
    assert arrived.state.weights["fc1"].dtype == np.float32
    np.testing.assert_array_equal(arrived.state.initial, state.initial)


def test_no_array_on_the_wire_holds_objects():
    question = write_question(Question("proof", ModelState(layer="fc1", initial=np.eye(2))))
    answer = write_answer(Answer(scored=(Scored(Tally(1, 2)),)))
    assert all(array.dtype.kind in "fiu" for array in (question | answer).values())


@pytest.mark.parametrize("name", ["task", "layer", "factor", "order", "n_flipped", "seed", "loss"])
def test_a_question_with_a_part_missing_is_refused(name):
    arrays = write_question(Question("proof", ModelState(layer="fc1", initial=np.eye(2))))
    with pytest.raises(flain.DataError, match=name):
        read_question({key: array for key, array in arrays.items() if key != name})


def test_an_unknown_task_is_refused():
    arrays = write_question(Question("proof", ModelState()))
    arrays["task"] = np.frombuffer(b"os.system", dtype=np.uint8)
    with pytest.raises(flain.DataError, match=r"expected a task among .*got 'os.system'"):
        read_question(arrays)


def test_what_a_holder_says_in_words_cannot_drive_a_terminal():
    arrays = {"faithful": np.array(0), "error": np.array(1.0)}
    arrays["why"] = np.frombuffer(b"\x1b[2Jno", dtype=np.uint8)
    assert read_answer(arrays).proof.why == "a holder of samples found: ?[2Jno"


def test_a_holder_that_failed_half_way_answers_right_afterwards():
    broken = []

    def change(cut):
        def tail(output):
            if broken:
                raise RuntimeError("out of memory")
            return cut.tail_by_sample(output)

        return {"tail_by_sample": tail}

    def asked(holder, n_flipped):
        return holder.answer(Question("candidates", state, (n_flipped,))).scored[0].clean

    state = ModelState({}, NAME, FIRST, order=ORDER[::-1], window=2e-5)
    holder, fresh = (Holder(Recut(FINAL, change), LocalSamples.of(CLEAN)) for _ in range(2))
    start = asked(holder, 0)
    broken.append(True)
    with pytest.raises(RuntimeError):
        asked(holder, 11)
    broken.clear()
    assert start != asked(fresh, 11)
    assert asked(holder, 11) == asked(fresh, 11)


def test_a_question_with_a_seed_that_no_generator_takes_is_refused():
    state = ModelState(layer="fc1", initial=INITIAL.layers()["fc1"].weight, order=np.arange(3))
    with pytest.raises(flain.DataError, match="seed of at least 0"):
        Holder(FINAL, LocalSamples.of(CLEAN)).answer(Question("proof", state, seed=-1))


def test_a_layer_that_runs_twice_is_not_scored_from_there_on():
    state = ModelState(layer="fc1", initial=INITIAL.layers()["fc1"].weight, order=np.arange(3))
    holder = Holder(never_cut(FINAL), LocalSamples.of(CLEAN))
    with pytest.raises(flain.LayerError, match="runs several times"):
        holder.answer(Question("candidates", state, (1, 2)))
    assert holder.answer(Question("in full", state, (1, 2))).scored
