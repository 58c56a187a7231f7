"""What a search may lose: decided exactly on whole samples, or on the mean and its error."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from by_neurons import by_neurons
from hypothesis import given
from hypothesis import strategies as st

from flain_core import Settings
from flain_core.stop import crossed, is_close, overspent
from flain_core.tallies import Loss, Scored, Tally

BEFORE = Scored(Tally(100, 100))


def lost(each, before=1.0, uncertain=0.0):
    """What is left where every sample had the probability ``before`` and lost so much."""
    loss = Loss(
        total=math.fsum(each),
        square=math.fsum(one * one for one in each),
        count=len(each),
        before=before * len(each),
        uncertain=uncertain,
    )
    return Scored(Tally(len(each), len(each)), loss=loss)


def settings(**options):
    return Settings(measure="probability", **options)


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 1000))
def test_a_crossing_is_decided_on_whole_samples(count, fewer, per_mille):
    tolerance = per_mille / 1000
    before, now = Scored(Tally(5000, count)), Scored(Tally(5000 - fewer, count))
    reverts = crossed(by_neurons(tolerance), before, now)
    keeps = crossed(by_neurons(tolerance, crossing="keep"), before, now)
    assert reverts == (fewer * 1000 > per_mille * count)
    assert keeps == (fewer * 1000 >= per_mille * count)


def test_the_mean_and_its_standard_error_are_what_was_lost():
    # Mean 0.25, sample variance 1/12: the standard error is sqrt(1/48).
    now = lost([0.0, 0.0, 0.5, 0.5])
    reach = 0.25 + math.sqrt(1 / 48)
    assert now.loss.standard_error == pytest.approx(math.sqrt(1 / 48), rel=1e-12)
    assert crossed(settings(tolerance=reach - 1e-9), BEFORE, now)
    assert not crossed(settings(tolerance=reach + 1e-9), BEFORE, now)


def test_samples_that_lose_alike_leave_no_error():
    now = lost([0.25] * 8)
    assert now.loss.standard_error == 0
    assert not crossed(settings(tolerance=0.25), BEFORE, now)
    assert crossed(settings(tolerance=0.25, crossing="keep"), BEFORE, now)
    assert crossed(settings(tolerance=0.2499), BEFORE, now)


def test_rounding_makes_no_variance_negative():
    for alike in (0.1, 0.2, 0.3):
        errors = [lost([alike] * count).loss.standard_error for count in range(2, 12)]
        assert errors == pytest.approx([0] * 10, abs=1e-8)


def test_a_single_sample_that_lost_anything_is_never_within():
    assert crossed(settings(tolerance=1.0), BEFORE, lost([1e-6]))
    assert not crossed(settings(tolerance=0.0), BEFORE, lost([0.0]))


def test_gains_cross_nothing_unless_zero_is_kept():
    assert not crossed(settings(tolerance=0.0), BEFORE, lost([-0.125] * 4))
    assert not crossed(settings(tolerance=0.0, crossing="keep"), BEFORE, lost([-0.125] * 4))
    assert crossed(settings(tolerance=0.0, crossing="keep"), BEFORE, lost([0.0] * 4))


@pytest.mark.parametrize(
    ("probability", "allowed"),
    [(1.0, 0.003), (0.9, 0.003), (0.8, 0.004), (0.7, 0.0135), (0.5, 0.03), (0.0, 0.03)],
)
def test_a_model_that_is_unsure_may_lose_more(probability, allowed):
    assert not crossed(settings(), BEFORE, lost([allowed - 1e-9] * 4, before=probability))
    assert crossed(settings(), BEFORE, lost([allowed + 1e-9] * 4, before=probability))
    if probability > 0.5:
        # What was asked for holds, whatever is missing.
        assert not crossed(settings(tolerance=0.05), BEFORE, lost([0.0499] * 4, before=probability))


@pytest.mark.parametrize(
    ("settings", "samples", "fewest"),
    [
        (Settings(), 400, 2),  # a whole sample, where the accuracy steers for lack of a better
        (Settings(), 1000, 3),
        (Settings(), 34, 2),
        (Settings(), 33, 1),  # one would be more than 0.03
        (Settings(measure="score"), 400, 1),
        (Settings(tolerance=0.002), 400, 1),
    ],
)
def test_how_many_samples_of_the_accuracy_may_be_lost(settings, samples, fewest):
    before = Scored(Tally(samples, samples))
    lost = [crossed(settings, before, Scored(Tally(samples - n, samples))) for n in range(5)]
    assert lost.index(True) == fewest


@pytest.mark.parametrize(("lost", "crosses"), [(Tally(1, 500), False), (Tally(1, 100), True)])
def test_a_fraction_that_several_holders_lost_is_no_number_of_samples(lost, crosses):
    now = Scored(Tally(3000, 3000), score_lost=lost)
    assert crossed(Settings(), Scored(Tally(3000, 3000)), now) is crosses


def test_what_may_be_lost_lies_between_a_floor_and_a_ceiling():
    settings = Settings()
    assert settings.allowed((0.003 / 0.5) ** (1 / 3) - 1e-9) == 0.003
    assert settings.allowed(0.2) == pytest.approx(0.004, rel=1e-12)
    assert settings.allowed((0.03 / 0.5) ** (1 / 3) + 1e-9) == 0.03
    assert settings.allowed(None) == settings.allowed(None, 0.1) == 0.002
    assert Settings(tolerance=0.5).allowed(0.9) == Settings(tolerance=0.5).allowed(None) == 0.5


@pytest.mark.parametrize(
    ("share", "times"), [(None, 1), (1.0, 1), (0.35, 1), (0.3, 1.588), (0.22, 4.026), (0.0, 4.026)]
)
def test_more_may_be_lost_while_little_is_flipped_for_a_class(share, times):
    def after(allowed, before):
        return replace(lost([allowed] * 4, before=before), class_share=share)

    for before, allowed in ((1.0, times * 0.003), (0.8, times * 0.004), (0.5, 0.03)):
        assert not crossed(settings(), BEFORE, after(0.999 * allowed, before))
        assert crossed(settings(), BEFORE, after(1.001 * allowed, before))
    assert crossed(settings(tolerance=0.003), BEFORE, after(0.0031, 1.0))
    fewer = replace(Scored(Tally(997, 1000)), class_share=share)
    assert crossed(Settings(measure="score"), Scored(Tally(1000, 1000)), fewer)


@given(
    st.lists(st.integers(-64, 64), min_size=2, max_size=40),
    st.integers(0, 64),
    st.integers(0, 1000),
)
def test_what_is_close_is_what_rounding_could_change(each, uncertain, per_mille):
    """Compared with the decision at the two ends of what the loss may have been."""
    now = lost([one / 64 for one in each], uncertain=uncertain / 64)
    rule = settings(tolerance=per_mille / 1000)
    reach = now.loss.mean + now.loss.standard_error
    slack = 2 * now.loss.uncertain / len(each)
    least, most = reach - slack > rule.tolerance, reach + slack > rule.tolerance
    assert is_close(rule, BEFORE, now) == (least != most)


@given(st.integers(0, 100), st.integers(0, 20), st.integers(0, 1000))
def test_counts_are_close_where_whole_samples_could_change_them(right, uncertain, per_mille):
    rule = by_neurons(per_mille / 1000)
    now = Scored(Tally(right, 100, uncertain))
    allowed = Fraction(per_mille, 10)
    least, most = (100 - right - uncertain > allowed), (100 - right + uncertain > allowed)
    assert is_close(rule, BEFORE, now) == (least != most)


@given(
    st.lists(st.integers(-64, 64), min_size=1, max_size=40),
    st.integers(0, 1000),
    st.sampled_from(["revert", "keep"]),
)
def test_what_is_overspent_tells_on_which_side_and_how_far(each, per_mille, crossing):
    now = lost([one / 64 for one in each])
    rule = settings(tolerance=per_mille / 1000, crossing=crossing)
    spent = overspent(rule, BEFORE, now)
    assert (spent > 0) == crossed(rule, BEFORE, now)
    reach, nearest = now.loss.mean + now.loss.standard_error, math.log(1.01)
    if reach > 0 and rule.tolerance and nearest < abs(math.log(reach / rule.tolerance)) < 2.3:
        assert spent == pytest.approx(math.log(reach / rule.tolerance), rel=1e-9)
    else:
        least, most = nearest, math.log(10)
        assert least <= abs(spent) <= most


@pytest.mark.parametrize(
    ("lost", "tolerance"),
    [(1, 1e-320), (5e-324, 1.0), (10**400, 0.5), (math.inf, 0.5), (0, 0.0), (-math.inf, 0.5)],
)
def test_no_quotient_is_too_large_or_too_small(lost, tolerance):
    rule, now = by_neurons(tolerance), Scored(Tally(100 - lost, 100))
    spent = overspent(rule, BEFORE, now)
    assert spent == math.copysign(math.log(10), 1 if crossed(rule, BEFORE, now) else -1)


def test_what_rounding_may_have_changed_is_not_lost_yet():
    assert not crossed(by_neurons(0.25), BEFORE, Scored(Tally(75, 100, uncertain=1)))
    assert crossed(by_neurons(0.25), BEFORE, Scored(Tally(74, 100, uncertain=1)))
    assert not crossed(settings(tolerance=0.25), BEFORE, lost([0.25] * 8, uncertain=0.5))
    assert crossed(settings(tolerance=0.25), BEFORE, lost([0.375] * 8, uncertain=0.5))


def test_without_a_loss_the_tolerance_is_one_of_the_score():
    rule = Settings()
    assert not crossed(rule, Scored(Tally(1000, 1000)), Scored(Tally(998, 1000)))
    assert crossed(rule, Scored(Tally(1000, 1000)), Scored(Tally(997, 1000)))
