"""By how much the quiet shares of classes exceed what the others suggest."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flain_core.in_directions.quiet_excess import _pairs, excess_of, quiet_excess


def alone(shares, *reasons):
    """The excess of classes beside all others."""
    return excess_of(shares, reasons, np.eye(len(shares), dtype=bool))


SHARES = np.array([0.2, 0.35, 0.3, 0.25, 0.22])


def beyond_the_others(shares):
    """How far the logarithm of each share lies from the mean of the others'."""
    own = np.log(shares)
    return np.array([own[one] - np.delete(own, one).mean() for one in range(len(own))])


def test_what_a_reason_lets_expect_by_hand():
    """A ridge regression on the other classes, written out for one reason."""
    reason = np.array([0.01, 0.2, 0.02, 0.08, 0.03])
    found = alone(SHARES, reason)
    for one in range(5):
        because, own = (np.delete(np.log(each), one) for each in (reason, SHARES))
        because = (because - because.mean()) / because.std()
        slope = because @ (own - own.mean()) / (because @ because + 1)
        others = np.delete(np.log(reason), one)
        itself = (np.log(reason[one]) - others.mean()) / others.std()
        expected = own.mean() + slope * np.clip(itself, -3, 3)
        assert found[one] == pytest.approx(np.log(SHARES[one]) - expected)


@pytest.mark.parametrize("reasons", [[np.ones(5)], [1 / SHARES], [1 / SHARES, np.full(5, 3.0)]])
def test_a_reason_that_says_nothing_or_the_opposite_does_not_count(reasons):
    np.testing.assert_allclose(alone(SHARES, *reasons), beyond_the_others(SHARES))


def test_of_two_reasons_one_alone_counts_where_the_other_says_the_opposite():
    reason, opposite = np.array([0.01, 0.2, 0.02, 0.08, 0.03]), np.array([9.0, 1, 2, 3, 8])
    only = alone(SHARES, reason)
    np.testing.assert_allclose(alone(SHARES, reason, opposite), only)
    np.testing.assert_allclose(alone(SHARES, opposite, reason), only)


def test_two_reasons_explain_more_than_one():
    one, other = np.array([1, 2, 3, 4, 5.0, 6]), np.array([3, 1, 4, 1, 5.0, 2])
    shares = 0.1 * one**0.3 * other**0.2
    both = np.abs(alone(shares, one, other)).sum()
    assert all(both < np.abs(alone(shares, reason)).sum() for reason in (one, other))


@given(st.floats(1e-6, 1e6), st.integers(0, 9))
def test_units_of_reasons_change_nothing(unit, seed):
    shares, *reasons = np.random.default_rng(seed).uniform(0.01, 1, size=(3, 7))
    scaled = alone(shares, unit * reasons[0], reasons[1])
    np.testing.assert_allclose(scaled, alone(shares, *reasons), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_and_shares_of_nothing_are_no_trouble(classes):
    for shares in (np.zeros(classes), np.eye(classes)[0]):
        assert np.isfinite(alone(shares, shares, np.arange(classes) * 1.0)).all()


def test_a_hard_class_does_not_come_before_an_attacked_one():
    """What training remembers of single samples is quiet too."""
    hard = np.array([0.3, 0.05, 0.1, 0.28, 0.15, 0.08, 0.2, 0.25, 0.06, 0.12])
    shares = 0.5 * hard**0.2
    shares[1] *= 1.15  # what a backdoor adds to an easy class
    assert shares.argmax() == 0
    assert alone(shares, hard).argmax() == 1


def test_a_class_for_which_nothing_was_trained_weighs_no_more_than_others():
    """Its logarithm of 0 would decide what the others suggest for each class."""
    hard = np.array([0.01, 0.16, 0.02, 0.08, 0.04, 0.03])
    shares = np.append(0.5 * hard[:5] ** 0.2, 0.0)
    shares[2] *= 1.3
    assert alone(shares, hard).argmax() == 2


def slopes_by_hand(reasons, own):
    """The best of all ridge regressions whose slopes are not negative, by trying each choice."""
    best = np.inf, np.zeros(2)
    for chosen in ([], [0], [1], [0, 1]):
        slopes, some = np.zeros(2), reasons[:, chosen]
        slopes[chosen] = np.linalg.solve(some.T @ some + np.eye(len(chosen)), some.T @ own)
        cost = np.square(own - reasons @ slopes).sum() + np.square(slopes).sum()
        if slopes.min() >= 0 and cost < best[0]:
            best = cost, slopes
    return best[1]


def by_hand(contrasts, quiet, whole, moved, of_sample):
    """The excess by contrasts, each a vector over the classes, in standard deviations."""
    own, still, blurred = [], [], []
    for contrast in contrasts:
        own.append(np.log((contrast @ quiet @ contrast) / (contrast @ whole @ contrast)))
        among = contrast[of_sample] != 0 if contrast.min() < 0 else np.full(len(moved), True)
        scores, member = (moved @ contrast)[among], contrast[of_sample][among] == 1
        still.append(-np.log(scores.var()))
        blurred.append(np.log(1 - np.corrcoef(scores, member)[0, 1]))
    own, reasons, excess = np.array(own), np.array([still, blurred]).T, []
    for one in range(len(whole)):
        ours = contrasts[:, one] != 0
        mean, spread = reasons[~ours].mean(axis=0), reasons[~ours].std(axis=0)
        slopes = slopes_by_hand((reasons[~ours] - mean) / spread, own[~ours] - own[~ours].mean())
        expected = np.clip((reasons[ours] - mean) / spread, -3, 3) @ slopes
        excess.append((own[ours] - own[~ours].mean() - expected).mean())
    return np.array(excess) / np.std(excess)


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_by_hand(seed):
    rng, (moved, of_sample) = np.random.default_rng(seed), seen(6, seed=seed)
    moved = moved @ rng.normal(size=(6, 6)) * rng.uniform(0.5, 2, 6)
    says = rng.normal(size=(6, 9))
    quiet = np.stack([products(says * rng.uniform(0.2, 0.6, (6, 1))) for _ in "ab"])
    each = np.eye(6)
    pairs = np.array([each[one] - each[other] for one, other in combinations(range(6), 2)])
    given = products(says), moved, of_sample
    expected = by_hand(each, quiet[0], *given) + by_hand(pairs, quiet[1], *given)
    np.testing.assert_allclose(quiet_excess(quiet, *given), expected, rtol=1e-9)


def test_two_classes_that_are_nearly_alike_do_not_come_first_by_rounding():
    rng, (moved, of_sample) = np.random.default_rng(0), seen(8)
    for _ in range(50):
        says = rng.normal(size=(8, 60))
        says[1] = says[0] * (1 + 1e-13)
        quiet = says * np.r_[np.full(30, 0.6), np.full(30, 0.2)]
        quiet[5, :30] *= 1.5
        twice = np.stack([products(quiet)] * 2)
        assert quiet_excess(twice, products(says), moved, of_sample).argmax() == 5


@pytest.mark.parametrize("share", [1.0, 1e-4, 0.0])
def test_a_class_of_next_to_no_share_does_not_silence_the_others(share):
    """Its distance from the others would be the unit in which theirs are counted."""
    moved, of_sample = seen(10)
    rng = np.random.default_rng(1)
    quiet = np.stack([np.diag(rng.uniform(0.28, 0.32, 10))] * 2)
    quiet[0, 4, 4] = 0.45
    quiet[1, 2, 2] = 0.34
    quiet[:, 7, 7] *= share
    assert quiet_excess(quiet, np.eye(10), moved, of_sample).argmax() == 4


def test_what_differs_by_rounding_alone_stands_out_nowhere():
    rng, (moved, of_sample) = np.random.default_rng(2), seen(7)
    alike = np.stack([0.3 * np.eye(7) * (1 + 1e-15 * rng.normal(size=7))] * 2)
    alike[1, 4, 4] = 0.4
    alone = quiet_excess(alike, np.eye(7), np.ones_like(moved), of_sample)
    np.testing.assert_allclose(np.delete(alone, 4), np.delete(alone, 4)[0], rtol=1e-6)
    assert alone.argmax() == 4


PAIRS = np.array(list(combinations(range(4), 2)))
BETWEEN = np.array([[one in pair for one in range(4)] for pair in PAIRS])


def test_the_excess_of_pairs_is_averaged_over_those_of_a_class():
    shares = np.array([0.5, 0.2, 0.3, 0.2, 0.1, 0.4])
    found = excess_of(shares, [np.ones(6)], BETWEEN)
    own = np.log(shares)
    for one in range(4):
        ours = BETWEEN[:, one]
        assert found[one] == pytest.approx(own[ours].mean() - own[~ours].mean())


def test_two_classes_have_no_pair_without_either():
    np.testing.assert_array_equal(excess_of(np.array([0.3]), [np.ones(1)], np.ones((1, 2)) > 0), 0)


def products(says):
    return says @ says.T


def seen(classes, count=400, noise=0.5, seed=0):
    """What an update says of samples: something of their class, as clearly for each."""
    rng = np.random.default_rng(seed)
    of_sample = np.arange(count) % classes
    return np.eye(classes)[of_sample] + noise * rng.normal(size=(count, classes)), of_sample


def test_a_class_set_apart_from_every_other_exceeds_more_than_one_set_apart_from_a_few():
    """A hard class is told from the classes like it; a backdoor tells its class from all."""
    classes, apart = 8, 9
    whole = np.eye(classes, apart) * 2.0
    quiet = 0.6 * np.eye(classes, apart)
    quiet[:2, -1] = 0.3, -0.3  # training tells 0 from 1, which resembles it
    attacked = quiet.copy()
    attacked[5] += 0.25 * np.eye(apart)[5]
    moved, of_sample = seen(classes)
    for says, first in ((quiet, (0, 1)), (attacked, (5,))):
        twice = np.stack([products(says)] * 2)
        excess = quiet_excess(twice, products(whole), moved, of_sample)
        assert excess.argmax() in first


@pytest.mark.parametrize("place", [0, 1])
def test_a_class_beside_all_others_and_two_classes_both_count(place):
    moved, of_sample = seen(6)
    quiet = np.stack([0.3 * np.eye(6)] * 2)
    quiet[place, 4, 4] = 0.4
    assert quiet_excess(quiet, np.eye(6), moved, of_sample).argmax() == 4


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1e9, 1e30])
def test_units_of_inputs_change_nothing(unit):
    rng, (moved, of_sample) = np.random.default_rng(4), seen(7)
    moved, says = moved * rng.uniform(0.5, 2, 7), rng.normal(size=(7, 9))
    quiet = np.stack([products(says * rng.uniform(0.2, 0.6, (7, 1))) for _ in "ab"])
    plain = quiet_excess(quiet, products(says), moved, of_sample)
    scaled = quiet_excess(quiet, products(says), unit * moved, of_sample)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("classes", "others"), [(2, 1), (10, 9), (11, 10), (12, 10), (300, 10)])
def test_each_class_is_compared_with_ten_others_at_most(classes, others):
    """All pairs of a thousand classes would be half a million."""
    first, second = _pairs(classes)
    assert (first < second).all()
    np.testing.assert_array_equal(np.bincount(np.r_[first, second]), others)
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == len(first)


def test_of_many_classes_the_attacked_one_comes_first():
    moved, of_sample = seen(300, count=900)
    quiet = 0.3 * np.eye(300)
    quiet[7, 7] = 0.5
    excess = quiet_excess(np.stack([quiet, quiet]), np.eye(300), moved, of_sample)
    assert excess.argmax() == 7


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_what_says_nothing_is_no_trouble(classes):
    moved, of_sample = seen(classes)
    nothing = np.zeros((classes, classes))
    for says in (
        (moved, of_sample),
        (0 * moved, of_sample),
        (np.eye(classes), np.arange(classes)),
    ):
        excess = quiet_excess(np.stack([nothing, nothing]), nothing, *says)
        assert np.isfinite(excess).all()
