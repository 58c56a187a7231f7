"""Lies that no check of a single holder finds: a median keeps what one of them can do small."""

import backdoored
import pytest
from in_process import InProcess, split
from lies import LIES

import flain_core as flain
from flain_core import Settings
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging
from flain_core.federated.wire import read_answer, write_answer
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples

INITIAL, FINAL = backdoored.networks()
CLEAN = backdoored.samples(300, seed=11)
HELD_OUT = LocalScorer(
    LocalSamples.of(
        backdoored.samples(1000, seed=3), probes={"ASR": backdoored.triggered(600, seed=5)}
    )
)


def rates(lie, holders, rule, measure):
    """ACC and ASR after purification, where one of so many holders lies."""

    def first(name, question, arrays):
        if name != "part 000" or lie is None:
            return arrays
        return write_answer(lie(question, read_answer(arrays)))

    parts, _ = split(CLEAN, holders)
    asked = InProcess(parts, lookahead=50, tamper=first)
    # That none leaves: each of these lies could be true.
    data = CoordinatedSamples(asked, Merging(rule), may_leave=True, least=holders)
    settings = Settings(measure=measure, tolerance=0.02)
    result = flain.purify(FINAL, initial=INITIAL, data=data, settings=settings)
    left = HELD_OUT.score_of(result.model)
    return left.clean.mean, left.probes["ASR"].mean


@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("holders", [3, 5, 10])
@pytest.mark.parametrize("lie", [None, *LIES.values()], ids=["none", *LIES])
def test_one_liar_neither_keeps_the_backdoor_nor_ruins_the_model(lie, holders, rule, measure):
    acc, asr = rates(lie, holders, rule, measure)
    assert asr < 0.1
    assert acc > HELD_OUT.score_of(FINAL).clean.mean - 0.01


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("measure", ["probability", "score"])
def test_a_sum_believes_it(measure):
    """So the lies are no empty ones."""
    _, asr = rates(LIES["right before and wrong after"], 5, "sum", measure)
    assert asr > 0.9
    acc, _ = rates(LIES["wrong before and right after"], 3, "sum", measure)
    assert acc < 0.8


@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("holders", [3, 5, 10])
def test_a_huge_number_of_samples_buys_a_liar_half_of_a_sum(holders, measure):
    acc, asr = rates(LIES["huge sample count"], holders, "sum", measure)
    assert asr < 0.1
    assert acc > HELD_OUT.score_of(FINAL).clean.mean - 0.01
