"""Holders of samples count what each lost from the trained model, whatever they were asked last."""

import backdoored
import numpy as np
import pytest
from in_process import InProcess, as_elsewhere, split
from recut import Recut

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import Holder
from flain_core.federated.merging import Merging
from flain_core.federated.messages import Answer, ModelState, Question
from flain_core.federated.wire import read_answer, read_question, write_answer, write_question
from flain_core.local_samples import LocalSamples
from flain_core.outputs import Reading
from flain_core.tallies import Scored, Tally
from flain_numpy import Dense, Network

CLEAN = backdoored.samples(120, seed=11)
INITIAL, FINAL = backdoored.networks()
FIRST, SECOND = (INITIAL.layers()[name].weight for name in ("fc1", "fc2"))
ORDER = np.arange(12)


def holder():
    return Holder(FINAL, LocalSamples.of(CLEAN))


def asked(task, n_flipped=(), layer="fc1", initial=FIRST, weights=None, order=ORDER):
    state = ModelState(weights or {}, layer, initial, order=order)
    return Question(task, state, n_flipped, loss=True)


def probability(network):
    scores = network.predict(CLEAN[0]).astype(float)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True))[np.arange(len(CLEAN[1])), CLEAN[1]]


def flipped(n):
    return FINAL.replace({"fc1": flain.flip(FIRST, FINAL.layers()["fc1"].weight, ORDER[:n])})


def assert_lost(scored, network):
    before, lost = probability(FINAL), probability(FINAL) - probability(network)
    assert scored.loss.total == pytest.approx(lost.sum(), abs=1e-4)
    assert scored.loss.square == pytest.approx(lost @ lost, abs=1e-4)
    assert scored.loss.before == pytest.approx(before.sum(), abs=1e-4)
    right, now = (each.predict(CLEAN[0]).argmax(axis=1) == CLEAN[1] for each in (FINAL, network))
    assert scored.loss.newly_wrong == np.count_nonzero(right & ~now)
    assert scored.loss.count == scored.clean.count == len(CLEAN[1])


@pytest.mark.parametrize("task", ["candidates", "in full"])
def test_losses_are_those_since_the_trained_model_even_if_it_was_never_asked_about(task):
    (scored,) = holder().answer(asked(task, (9,))).scored
    assert_lost(scored, flipped(9))


@pytest.mark.parametrize("task", ["candidates", "in full"])
def test_and_not_since_the_model_whose_second_layer_is_searched(task):
    weights = {"fc1": flipped(9).layers()["fc1"].weight}
    order = np.arange(10)
    question = asked(task, (0, 5), "fc2", SECOND, weights, order)
    nothing, some = holder().answer(question).scored
    assert_lost(nothing, flipped(9))
    after = flain.flip(SECOND, FINAL.layers()["fc2"].weight, order[:5])
    assert_lost(some, flipped(9).replace({"fc2": after}))


def test_whatever_was_asked_before():
    remembering = holder()
    questions = [
        asked("statistics"),
        asked("candidates", (0,)),
        asked("candidates", (3, 9)),
        asked("in full", weights={"fc1": flipped(9).layers()["fc1"].weight}),
        Question("in full", asked("in full").state, (9,)),
        asked("candidates", (9,)),
        asked("in full", (0, 9)),
    ]
    for question in questions:
        scored = remembering.answer(question).scored
        if scored and question.loss and question.n_flipped != (0,):
            assert_lost(scored[-1], flipped(9))
        assert question.loss or scored[0].loss is None


def test_a_cut_that_is_wrong_does_not_say_what_a_model_run_in_full_loses():
    """It scores everything alike, so that counted from there every candidate would gain."""
    wrong = Recut(FINAL, lambda cut: {"tail": lambda output: cut.tail(output * 0)})
    told = Holder(wrong, LocalSamples.of(CLEAN))
    told.answer(asked("candidates", (0,)))
    (scored,) = told.answer(asked("in full", (9,))).scored
    assert_lost(scored, flipped(9))


def test_without_being_asked_for_losses_none_are_measured():
    question = Question("candidates", asked("candidates").state, (0, 9))
    assert [each.loss for each in holder().answer(question).scored] == [None, None]
    holders = InProcess(split(CLEAN, 2)[0])
    flain.purify(
        FINAL,
        initial=INITIAL,
        data=CoordinatedSamples(holders),
        settings=Settings(measure="score"),
    )
    assert not any(each.loss for each in holders.asked)


def test_losses_arrive_as_they_were_sent():
    answer = holder().answer(asked("candidates", (0, 5, 9)))
    arrived = read_answer(write_answer(answer))
    assert [each.loss for each in arrived.scored] == [each.loss for each in answer.scored]
    assert arrived.reading.outputs == "logits"


@pytest.mark.filterwarnings("ignore:80 clean samples:flain_core.FlainWarning")
def test_losses_that_nobody_asked_for_are_refused():
    lie = holder().answer(asked("candidates", (0,)))

    def tamper(name, question, arrays):
        if name == "part 001" and "clean" in arrays:
            return arrays | {"loss": write_answer(lie)["loss"]}
        return arrays

    data = CoordinatedSamples(InProcess(split(CLEAN, 3)[0], tamper=tamper), may_leave=True)
    with pytest.warns(FlainWarning, match="part 001, .*nothing of what the samples lost"):
        flain.purify(FINAL, initial=INITIAL, data=data, settings=Settings(measure="score"))


# --- What the scores are -------------------------------------------------------------------------


def one_output(weight):
    return Network([Dense("score", np.array([weight], np.float32))])


ONE_INITIAL, ONE_FINAL = one_output([0.1, 0.0, 0.1]), one_output([4.0, -4.0, 9.0])
X = np.array([[0.2, 0.0, 0.0], [0.15, 0.0, 0.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], np.float32)
Y = np.array([1, 1, 1, 0])


@pytest.mark.filterwarnings("ignore:12 clean samples are too few")
def test_holders_that_read_the_scores_otherwise_than_most_are_left_out():
    """The logits of its samples all look like probabilities."""
    parts = [(X[:2], Y[:2]), *[(X, Y)] * 3]
    data = CoordinatedSamples(InProcess(parts), may_leave=True)
    with pytest.warns(FlainWarning, match="part 000, .* reads the model's scores as probabilities"):
        flain.purify(ONE_FINAL, initial=ONE_INITIAL, data=data)


def test_without_a_majority_nobody_is_believed():
    data = CoordinatedSamples(InProcess([(X[:2], Y[:2]), (X, Y)]))
    with pytest.raises(
        flain.DataError,
        match=r'of one score, and others as .*: holders do not agree on that.* outputs="logits"',
    ):
        flain.purify(ONE_FINAL, initial=ONE_INITIAL, data=data)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_stated_outputs_settle_it():
    parts = [(X[:2], Y[:2]), (X[2:], Y[2:])]
    data = CoordinatedSamples(InProcess(parts), outputs="logits")
    result = flain.purify(ONE_FINAL, initial=ONE_INITIAL, data=data)
    expected = flain.purify(
        ONE_FINAL,
        initial=ONE_INITIAL,
        data=(X, Y),
        outputs="logits",
        batch_size=2,
        settings=as_elsewhere(),
    )
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)
    assert [step.loss for step in result.layers[0].steps] == pytest.approx(
        [step.loss for step in expected.layers[0].steps], abs=1e-6
    )
    with pytest.raises(flain.SettingsError, match="outputs"):
        CoordinatedSamples(InProcess(parts), outputs="softmax")


@pytest.mark.parametrize("outputs", [None, "logits", "probabilities"])
def test_what_was_stated_arrives(outputs):
    question = Question("in full", ModelState(), outputs=outputs)
    assert read_question(write_question(question)).outputs == outputs


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_how_scores_are_read_arrives(outputs):
    scores = np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])
    reading = Reading.of(scores, outputs, np.array([0, 1, 1]))
    answer = Answer(scored=(Scored(Tally(1, 3)),), reading=reading)
    arrived = read_answer(write_answer(answer)).reading
    assert (arrived.outputs, arrived.single, arrived.classes) == (outputs, False, 2)
    assert arrived.confidence == reading.confidence
    np.testing.assert_array_equal(arrived.excess, [2 / 3, -2 / 3])
    arrays = write_answer(answer) | {"outputs": np.frombuffer(b"odds", dtype=np.uint8)}
    with pytest.raises(flain.DataError, match="expected outputs among"):
        read_answer(arrays)


@pytest.mark.parametrize("rule", ["sum", "median", "trimmed_mean"])
def test_the_note_on_merged_samples_speaks_of_the_samples_that_count(rule):
    data = CoordinatedSamples(InProcess(split(CLEAN, 3)[0]), Merging(rule))
    result = flain.purify(
        FINAL, initial=INITIAL, data=data, settings=Settings(measure="score", tolerance=0.02)
    )
    assert any("one of the 120 clean samples" in note for note in result.notes)
