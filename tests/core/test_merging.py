"""What several holders found becomes one finding, exactly, and no holder weighs too much."""

from dataclasses import replace
from fractions import Fraction
from math import inf, pi, sqrt
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flain_core as flain
from flain_core import ActivationStatistics, Settings, stop
from flain_core.federated.merging import Merging, limited
from flain_core.tallies import Loss, Scored, Tally

ROBUST = [Merging("median"), Merging("trimmed_mean")]


def loss_of(before, after):
    """The sums of samples with these probabilities."""
    lost = np.subtract(before, after)
    return Loss(
        float(lost.sum()), float(lost @ lost), 0, lost.size, float(np.sum(before)), uncertain=0.0
    )


def hits(*pairs):
    return [Tally(right, count) for right, count in pairs]


def crossed(merging, trained, now, tolerance, crossing="revert"):
    settings = Settings(measure="score", tolerance=tolerance, crossing=crossing)
    before, after = (
        merging.scored([Scored(each) for each in tallies], trained) for tallies in (trained, now)
    )
    return stop.crossed(settings, before, after)


# --- Each holder's own loss ----------------------------------------------------------------------


@pytest.mark.parametrize("merging", ROBUST)
def test_holders_that_differ_by_more_than_the_tolerance_lose_nothing_where_each_loses_nothing(
    merging,
):
    trained = hits((100, 100), (80, 100), (60, 100))
    assert not crossed(merging, trained, trained, tolerance=0.0)


@pytest.mark.parametrize("merging", ROBUST)
def test_a_liar_that_was_right_before_and_is_wrong_after_has_no_veto(merging):
    """The median of the accuracies falls from 0.95 to 0.90, and no honest holder lost anything."""
    trained = hits((1000, 1000), (95, 100), (90, 100))
    now = hits((0, 1000), (95, 100), (90, 100))
    assert not crossed(merging, trained, now, tolerance=0.002)


@pytest.mark.parametrize("merging", ROBUST)
def test_one_that_was_wrong_before_and_is_right_after_mends_nothing(merging):
    trained = hits((0, 1000), (95, 100), (90, 100))
    now = hits((1000, 1000), (85, 100), (80, 100))
    assert crossed(merging, trained, now, tolerance=0.05)


@given(
    st.lists(
        st.tuples(st.integers(1, 2**30), st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=7
    ),
    st.data(),
)
def test_a_loss_of_hits_is_merged_exactly(parts, data):
    trained = [Tally(round(before * count), count) for count, before, _ in parts]
    now = [Tally(round(after * count), count) for count, _, after in parts]
    each = [Fraction(b.total - a.total, a.count) for b, a in zip(trained, now, strict=True)]
    merged = Merging("median").lost(trained, now)
    assert Fraction(merged.total, merged.count) == median(each)
    trimmed = Merging("trimmed_mean").lost(trained, now)
    cut = max(1, len(each) // 5)
    kept = sorted(each)[cut : len(each) - cut]
    assert Fraction(trimmed.total, trimmed.count) == sum(kept) / len(kept)
    index = data.draw(st.integers(0, len(parts) - 1))
    (alone,) = [Merging("median").lost([trained[index]], [now[index]])]
    assert Fraction(alone.total, alone.count) == each[index]


@given(st.integers(1, 5000), st.integers(0, 1000), st.integers(1, 9), st.booleans())
def test_holders_that_lost_alike_decide_as_one_would_at_the_boundary_too(
    count, per_mille, holders, keeps
):
    crossing = "keep" if keeps else "revert"
    for lost in {per_mille * count // 1000, -(-per_mille * count // 1000)}:
        trained, now = Tally(count, count), Tally(count - lost, count)
        expected = 1000 * lost > per_mille * count or (keeps and 1000 * lost == per_mille * count)
        for merging in (Merging(), Merging("median")):
            each = [trained] * holders, [now] * holders
            assert crossed(merging, *each, per_mille / 1000, crossing) == expected


@pytest.mark.parametrize("merging", ROBUST)
def test_what_is_uncertain_of_one_holder_alone_decides_nothing(merging):
    trained = hits((100, 100), (100, 100), (100, 100))
    now = [Tally(100, 100, uncertain=100), *trained[1:]]
    merged = merging.scored([Scored(each) for each in now], trained)
    before = merging.scored([Scored(each) for each in trained], trained)
    rule = Settings(measure="score")
    assert not stop.is_close(rule, before, merged)
    doubtful = [replace(each, uncertain=50) for each in now]
    assert stop.is_close(rule, before, merging.scored([Scored(each) for each in doubtful], trained))


# --- Losses of the probability -------------------------------------------------------------------


def probabilities(seed, count):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 1, count), rng.uniform(0.4, 1, count)


def test_the_sum_is_that_of_all_samples():
    parts = [probabilities(seed, count) for seed, count in enumerate((30, 50, 40))]
    merged = Merging().loss([loss_of(*part) for part in parts])
    whole = loss_of(*map(np.concatenate, zip(*parts, strict=True)))
    assert merged.count == 120
    for name in ("mean", "standard_error", "missing"):
        assert getattr(merged, name) == pytest.approx(getattr(whole, name))


def test_the_median_is_that_of_each_holders_mean_and_of_its_error():
    each = [loss_of(*probabilities(seed, 20 + 10 * seed)) for seed in range(5)]
    merged = Merging("median").loss(each)
    assert merged.mean == pytest.approx(median(one.mean for one in each))
    error = median(one.standard_error for one in each)
    assert merged.standard_error == pytest.approx(sqrt(pi / 10) * error)
    assert merged.missing == pytest.approx(median(one.missing for one in each))


@pytest.mark.parametrize("rule", ["sum", "median", "trimmed_mean"])
def test_one_holder_alone_says_what_it_says(rule):
    one = loss_of(*probabilities(0, 30))
    if rule == "trimmed_mean":
        assert Merging(rule, trim=0).loss([one]) is one
    assert Merging(rule).loss([one]) is one
    assert Merging(rule).tally([Tally(7, 9)]) == Tally(7, 9)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 60)), min_size=2, max_size=8), st.data()
)
def test_no_liar_moves_a_loss_beyond_those_of_the_honest(holders, data):
    honest = [loss_of(*probabilities(seed, count)) for seed, count in holders]
    count = data.draw(st.sampled_from([1, 50, 2**48]))
    lie = data.draw(st.sampled_from([-1.0, -0.5, 0.0, 1.0]))
    liar = Loss(lie * count, lie**2 * count, 0, count, max(lie, 0) * count, uncertain=count)
    for merging in ROBUST:
        merged = merging.loss([*honest, liar])
        means = [one.mean for one in honest]
        assert min(means) - 1e-9 <= merged.mean <= max(means) + 1e-9
        missing = [one.missing for one in honest]
        assert min(missing) - 1e-9 <= merged.missing <= max(missing) + 1e-9
        most = max(min(one.standard_error, 1) for one in honest)
        assert merged.standard_error <= sqrt(pi / 2 / (len(honest) + 1)) * most + 1e-6
        assert merged.uncertain / merged.count <= max(means) - min(means) + 1e-9


def test_a_single_sample_whose_error_is_infinite_ends_no_search_of_others():
    each = [loss_of([0.9], [0.1]), *(loss_of([0.9] * 50, [0.9] * 50) for _ in range(2))]
    assert each[0].standard_error == inf
    assert Merging("median").loss(each).standard_error == 0
    assert np.isfinite(Merging("median").loss(each[:1] * 3).standard_error)


# --- What a holder may weigh ---------------------------------------------------------------------

COUNTS = st.lists(st.one_of(st.integers(1, 50), st.integers(1, 2**48)), min_size=3, max_size=12)


@given(COUNTS, st.sampled_from([Fraction(1, 2), Fraction(1, 3), Fraction(9, 10), Fraction(1, 20)]))
def test_no_holder_has_more_than_its_share_and_no_more_is_taken_than_needed(counts, share):
    weights = limited(tuple(counts), share)
    most = max(share, Fraction(1, len(counts))) * sum(weights)
    assert max(weights) <= most
    beyond = max(counts) > max(share, Fraction(1, len(counts))) * sum(counts)
    assert beyond == (weights != tuple(counts))
    if weights != tuple(counts):
        assert max(weights) == most
        assert weights == tuple(min(count, most) for count in counts)


@given(COUNTS)
def test_no_holder_of_three_or_more_outweighs_all_others_together(counts):
    weights = limited(tuple(counts), Fraction(1, 2))
    assert 2 * max(weights) <= sum(weights)


def test_of_two_holders_every_sample_counts_once():
    assert limited((1, 2**40), Fraction(1, 2)) == (1, 2**40)
    assert Merging().tally(hits((1, 1), (5, 9))) == Tally(6, 10)


def test_a_probe_steers_nothing_and_may_lie_with_one_holder():
    each = [Scored(Tally(9, 10), {"ASR": Tally(count, count)}) for count in (1000, 1, 2)]
    assert Merging().scored(each).probes["ASR"] == Tally(1003, 1003)


def test_a_holder_with_too_many_samples_counts_as_one_with_fewer_that_score_alike():
    fewer, more = hits((6, 10), (9, 10), (20, 20)), hits((6, 10), (9, 10), (2**30, 2**30))
    assert Merging().tally(more) == Merging().tally(fewer)
    before, after = np.full(40, 0.9), np.tile([0.9, 0.7], 20)
    others = [loss_of(*probabilities(seed, 20)) for seed in (1, 2)]
    huge = loss_of(np.tile(before, 100), np.tile(after, 100))
    merged, expected = (Merging().loss([*others, one]) for one in (huge, loss_of(before, after)))
    for name in ("total", "square", "count", "before", "standard_error"):
        assert getattr(merged, name) == pytest.approx(getattr(expected, name))


def test_statistics_are_weighed_alike():
    inputs = np.random.default_rng(0).normal(size=(60, 4))
    each = [ActivationStatistics().update(part) for part in np.split(inputs, [10, 20])]
    huge = ActivationStatistics().update(np.tile(inputs[20:], (50, 1)))
    expected = [ActivationStatistics().update(np.tile(inputs[20:30], (2, 1))), *each[:2]]
    assert Merging().statistics([*each[:2], huge]).count == 40
    same = ActivationStatistics().update(np.tile(inputs[20:30], (40, 1)))
    merged, scaled = Merging().statistics([same, *each[:2]]), Merging().statistics(expected)
    for name in ("mean", "mean_abs", "rms", "active_fraction"):
        np.testing.assert_allclose(getattr(merged, name), getattr(scaled, name))


def test_the_limit_holds_for_hits_to_the_sample():
    """A liar with 2^30 samples says that nothing is lost, and counts for two of four."""
    trained = hits((100, 100), (100, 100), (2**30, 2**30))
    two_lost = hits((98, 100), (98, 100), (2**30, 2**30))
    assert crossed(Merging(), trained, two_lost, tolerance=0.0099)
    assert not crossed(Merging(), trained, two_lost, tolerance=0.01)
    assert not crossed(Merging(largest_share=1), trained, two_lost, tolerance=0.0099)


@pytest.mark.parametrize("share", [0, -1, 1.5, True, "half", None])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(flain.SettingsError, match="largest_share"):
        Merging(largest_share=share)


# --- How many holders a rule needs ---------------------------------------------------------------


@given(st.integers(3, 60), st.floats(0.001, 0.499))
def test_three_are_enough_to_be_trimmed(holders, trim):
    merging = Merging("trimmed_mean", trim=trim)
    assert merging.least == 3
    assert merging.tally([Tally(5, 10)] * holders).mean == 0.5


def test_other_rules_need_one():
    assert [Merging().least, Merging("median").least, Merging("trimmed_mean", trim=0).least] == [
        1
    ] * 3
