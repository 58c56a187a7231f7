"""What docs/lying-holders.md says of holders that lie together, statement by statement."""

import numpy as np
import pytest
from in_process import InProcess, split
from liars import ACC, CLEAN, FINAL, INITIAL, rates
from plots import PLOTS, told

import flain_core as flain
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging, limited
from flain_core.settings import as_fraction

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")]
RULES = ["sum", "median", "trimmed_mean"]
NONE, EVERY, SWAPPED = "no flip is good", "every flip is good", "silent and active swapped"


def left_by(plot, colluders, holders, merging, **options):
    return rates(told(PLOTS[plot], colluders), holders, merging, **options)


def harmless(acc, asr):
    return asr < 0.1 and acc > ACC - 0.02


@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    ("colluders", "holders", "merging"),
    [
        (2, 5, "median"),
        (4, 10, "median"),
        (2, 10, "trimmed_mean"),
        (2, 5, Merging("trimmed_mean", trim=0.4)),
    ],
    ids=["2 of 5, median", "4 of 10, median", "2 of 10, trimmed", "2 of 5, trim=0.4"],
)
def test_colluders_are_outvoted_by(colluders, holders, merging, plot, measure):
    assert harmless(*left_by(plot, colluders, holders, merging, measure=measure))


@pytest.mark.parametrize("rule", ["sum", "trimmed_mean"])
def test_two_of_five_keep_the_backdoor_or_ruin_the_model_by(rule):
    assert left_by(NONE, 2, 5, rule)[1] > 0.9
    assert left_by(SWAPPED, 2, 5, rule)[1] > 0.9
    assert left_by(EVERY, 2, 5, rule)[0] < 0.8


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_two_that_pull_in_opposite_directions_do_nothing_by(rule):
    assert harmless(*left_by("no flip is good, and every flip is", 2, 5, rule))


@pytest.mark.parametrize("rule", RULES)
def test_half_keep_the_backdoor_or_ruin_the_model_by(rule):
    assert left_by(NONE, 5, 10, rule)[1] > 0.9
    assert left_by(EVERY, 5, 10, rule)[0] < 0.8


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("plot", ["losses of unlucky samples", "losses of lucky samples"])
def test_claims_that_other_samples_could_have_caused_change_little_by(rule, plot):
    assert harmless(*left_by(plot, 5, 10, rule))


def test_two_that_claim_huge_numbers_own_a_sum():
    weights = limited((60, 60, 60, 2**40, 2**40), as_fraction(Merging().largest_share))
    assert sum(weights[3:]) / sum(weights) > 0.999999
    alone = limited((60, 60, 60, 60, 2**40), as_fraction(Merging().largest_share))
    assert alone[-1] / sum(alone) == 0.5
    assert left_by("huge counts, and every flip is good", 2, 10, "sum")[0] < 0.6


@pytest.mark.parametrize(("silent", "ends"), [(4, False), (5, True)])
def test_half_stop_a_purification_by_giving_no_answer(silent, ends):
    parts, _ = split(CLEAN, 10)

    def tamper(name, question, arrays):
        if int(name.removeprefix("part ")) < silent:
            raise flain.DataError("no")
        return arrays

    asked = InProcess(parts, lookahead=50, tamper=tamper)
    # As many as the stacks ask for: more than half.
    data = CoordinatedSamples(asked, Merging("median"), may_leave=True, least=6)
    before = FINAL.layers()["fc1"].weight.copy()
    if ends:
        with pytest.raises(flain.DataError, match="at least 6 holders"):
            flain.purify(FINAL, initial=INITIAL, data=data)
    else:
        assert flain.purify(FINAL, initial=INITIAL, data=data).layers[0].share > 0
    np.testing.assert_array_equal(FINAL.layers()["fc1"].weight, before)
