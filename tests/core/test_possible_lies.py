"""Lies that no check of a single holder finds: a median keeps what one of them can do small."""

import pytest
from liars import ACC, rates
from lies import LIES


@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
@pytest.mark.parametrize("holders", [3, 5, 10])
@pytest.mark.parametrize("lie", [None, *LIES.values()], ids=["none", *LIES])
def test_one_liar_neither_keeps_the_backdoor_nor_ruins_the_model(lie, holders, rule, measure):
    acc, asr = rates((lie,) if lie else (), holders, rule, measure=measure)
    assert asr < 0.1
    assert acc > ACC - 0.01


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("measure", ["probability", "score"])
def test_a_sum_believes_it(measure):
    """So the lies are no empty ones."""
    _, asr = rates((LIES["right before and wrong after"],), 5, "sum", measure=measure)
    assert asr > 0.9
    acc, _ = rates((LIES["wrong before and right after"],), 3, "sum", measure=measure)
    assert acc < 0.8


@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("holders", [3, 5, 10])
def test_a_huge_number_of_samples_buys_a_liar_half_of_a_sum(holders, measure):
    acc, asr = rates((LIES["huge sample count"],), holders, "sum", measure=measure)
    assert asr < 0.1
    assert acc > ACC - 0.01
