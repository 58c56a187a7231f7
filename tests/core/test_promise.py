"""What is promised about unseen samples is exact, and it is kept."""

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flain_core.binomial import binomial_tail
from flain_core.errors import SettingsError
from flain_core.promise import (
    Promise,
    most_newly_wrong,
    promised_share,
    samples_needed,
)

shares = st.floats(1e-6, 1 - 1e-6)
confidences = st.floats(0.01, 0.999)


@st.composite
def counts(draw, most=60):
    samples = draw(st.integers(1, most))
    return draw(st.integers(0, samples)), samples


@given(counts(), shares)
def test_a_tail_is_the_sum_of_exact_fractions(pair, share):
    wrong, samples = pair
    exact = Fraction(share)
    terms = (
        math.comb(samples, k) * exact**k * (1 - exact) ** (samples - k) for k in range(wrong + 1)
    )
    assert binomial_tail(wrong, samples, share) == pytest.approx(float(sum(terms)), rel=1e-12)


@pytest.mark.parametrize("samples", [100, 10_000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("share", [1e-6, 0.0002, 0.005, 0.3, 0.5, 0.9])
def test_a_tail_of_many_samples_is_scipys(samples, share):
    stats = pytest.importorskip("scipy.stats")
    spread = math.sqrt(samples * share * (1 - share))
    for distance in (-30, -8, -3, -1, 0, 1, 4):
        wrong = round(samples * share + distance * spread)
        if 0 <= wrong < samples:
            expected = stats.binom.cdf(wrong, samples, share)
            assert binomial_tail(wrong, samples, share) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("share", [0.001, 0.3])
def test_a_tail_of_ten_million_samples_is_exact_to_twelve_digits(share):
    mpmath = pytest.importorskip("mpmath")
    samples = 10_000_000
    with mpmath.workdps(60):
        p = mpmath.mpf(share)
        spread = math.sqrt(samples * share * (1 - share))
        for distance in (-33, -20, -5, -1, 1):
            wrong = round(samples * share + distance * spread)
            term = mpmath.binomial(samples, wrong) * p**wrong * (1 - p) ** (samples - wrong)
            total, odds = mpmath.mpf(0), (1 - p) / p
            for k in range(wrong, -1, -1):
                total += term
                term *= k * odds / (samples - k + 1)
                if term < total * mpmath.mpf(10) ** -25:
                    break
            ours = binomial_tail(wrong, samples, share)
            assert abs(ours / total - 1) < 1e-12


def test_tails_at_the_ends():
    assert binomial_tail(5, 5, 0.3) == 1
    assert binomial_tail(9, 5, 0.3) == 1
    assert binomial_tail(0, 0, 0.3) == 1
    assert binomial_tail(0, 10_000_000, 0.9) == 0
    assert binomial_tail(0, 100, 5e-324) == 1
    assert binomial_tail(1, 100, 5e-324) == 1
    assert binomial_tail(98, 100, math.nextafter(1, 0)) == pytest.approx(0, abs=1e-13)


def test_the_tail_of_all_but_one_by_hand():
    assert binomial_tail(2, 3, 0.5) == pytest.approx(7 / 8, rel=1e-15)
    assert binomial_tail(3, 4, 0.25) == pytest.approx(255 / 256, rel=1e-15)


def test_a_risk_that_is_just_reached_is_allowed():
    # A single sample is right with probability 1/2, and that is the risk.
    assert binomial_tail(0, 1, 0.5) == 0.5
    assert most_newly_wrong(1, 0.5, 0.5) == 0
    assert samples_needed(0.5, 0.5) == 1
    assert Promise(0.5, 0.5, 1, 0).loss == 0.5


def test_a_promise_holds_plain_numbers():
    promise = Promise(np.float64(0.5), np.float64(0.5), np.int64(10), np.int64(1))
    kinds = [type(each) for each in (promise.loss, promise.confidence)]
    assert kinds == [float, float]
    assert [type(each) for each in (promise.samples, promise.allowed)] == [int, int]


@pytest.mark.parametrize(
    ("samples", "share", "allowed"),
    [
        (800, 0.002, -1),
        (800, 0.005, 0),
        (800, 0.01, 3),
        (1600, 0.005, 3),
        (3200, 0.005, 9),
        (10_000, 0.005, 38),
        (0, 0.5, -1),
    ],
)
def test_how_many_may_be_newly_wrong(samples, share, allowed):
    assert most_newly_wrong(samples, share, 0.95) == allowed


@given(st.integers(0, 5000), shares, confidences)
def test_one_more_than_allowed_is_too_many(samples, share, confidence):
    allowed = most_newly_wrong(samples, share, confidence)
    assert -1 <= allowed < max(samples, 1)
    if allowed >= 0:
        assert binomial_tail(allowed, samples, share) <= 1 - confidence + 1e-15
    if allowed + 1 < samples:
        assert binomial_tail(allowed + 1, samples, share) > 1 - confidence - 1e-15


@pytest.mark.parametrize(
    ("samples", "share"), [(800, 0.00374), (300, 0.00994), (100, 0.0295), (50, 0.0582)]
)
def test_samples_without_any_loss_promise_this(samples, share):
    promised = promised_share(samples, 0, 0.95)
    assert promised == pytest.approx(share, rel=0.01)
    assert promised == pytest.approx(1 - 0.05 ** (1 / samples), abs=1e-12)


@given(counts(most=3000), confidences)
def test_a_promised_share_holds_and_is_the_smallest(pair, confidence):
    allowed, samples = pair
    share = promised_share(samples, allowed, confidence)
    if allowed == samples:
        assert share == 1
        return
    assert most_newly_wrong(samples, share, confidence) >= allowed
    smaller = share - 1e-9
    assert smaller <= 0 or most_newly_wrong(samples, smaller, confidence) < allowed


@given(counts(most=3000), confidences)
def test_a_promised_share_is_the_bound_of_clopper_and_pearson(pair, confidence):
    stats = pytest.importorskip("scipy.stats")
    allowed, samples = pair
    upper = 1 if allowed == samples else stats.beta.ppf(confidence, allowed + 1, samples - allowed)
    assert promised_share(samples, allowed, confidence) == pytest.approx(upper, rel=1e-7, abs=1e-11)


def test_more_allowed_than_there_are_samples_promises_nothing():
    assert promised_share(3, 7, 0.95) == 1
    assert promised_share(0, 0, 0.95) == 1
    assert str(Promise.of(1, 1, 0.95)) == (
        "nothing can be promised about new samples (1 sample, 1 allowed)"
    )


@given(st.floats(1e-5, 0.9), confidences, st.integers(0, 40))
def test_as_many_samples_as_needed_and_no_fewer(share, confidence, allowed):
    needed = samples_needed(share, confidence, allowed)
    assert most_newly_wrong(needed, share, confidence) >= allowed
    assert most_newly_wrong(needed - 1, share, confidence) < allowed


def test_no_number_of_samples_promises_next_to_nothing():
    with pytest.raises(SettingsError, match="greater share"):
        samples_needed(1e-300, 0.95)


def test_a_promise_in_words_is_rounded_so_that_it_stays_true():
    assert str(Promise(0.01, 0.95, 800, 3)) == (
        "with 95 % confidence, at most 1.0 % of new samples drawn like the auxiliary ones are "
        "newly wrong (800 samples, 3 allowed)"
    )
    assert "at most 0.38 % of" in str(Promise.of(800, 0, 0.95))  # 0.3738
    assert "with 99.9999999 % confidence" in str(Promise.of(800, 0, 0.999999999))
    assert "at most 0.000030 % of" in str(Promise.of(10_000_000, 0, 0.95))
    assert "(10,000,000 samples, 0 allowed)" in str(Promise.of(10_000_000, 0, 0.95))


def test_a_promise_that_the_samples_do_not_bear_out_is_refused():
    with pytest.raises(SettingsError, match=r"at least 0\.374 %; got 0\.003\. Give a greater loss"):
        Promise(0.003, 0.95, 800, 0)
    assert Promise(np.float32(0.5), np.float64(0.95), np.int64(800), np.int64(0)).loss == 0.5


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: promised_share(5, -1, 0.5), "at least 0; got -1"),
        (lambda: promised_share(5, 1.0, 0.5), "whole number"),
        (lambda: promised_share(5, True, 0.5), "whole number"),
        (lambda: promised_share("5", 1, 0.5), "whole number"),
        (lambda: most_newly_wrong(5, 0, 0.5), "greater than 0 and less than 1"),
        (lambda: most_newly_wrong(5, 1, 0.5), "greater than 0 and less than 1"),
        (lambda: most_newly_wrong(5, math.nan, 0.5), "got nan"),
        (lambda: most_newly_wrong(5, "1%", 0.5), "number"),
        (lambda: most_newly_wrong(5, True, 0.5), "number"),
        (lambda: most_newly_wrong(5, 10**400, 0.5), "that a float can hold"),
        (lambda: most_newly_wrong(800, 0.5, 95), "fraction (0.01 is one per cent); got 95"),
        (lambda: most_newly_wrong(800, 0.5, 1.0), "confidence"),
        (lambda: most_newly_wrong(800, -0.5, 0.95), "share"),
        (lambda: most_newly_wrong(800.5, 0.5, 0.95), "number of samples"),
        (lambda: promised_share(-1, 0, 0.95), "number of samples"),
        (lambda: promised_share(5, False, 0.95), "allowed"),
        (lambda: promised_share(5, 9, 0), "confidence"),
        (lambda: samples_needed(0.0, 0.95), "share"),
        (lambda: samples_needed(0.1, 0.95, -1), "allowed"),
        (lambda: Promise(0, 0.95, 800, 0), "promised loss greater than 0"),
        (lambda: Promise(1.5, 0.95, 800, 0), "at most 1"),
        (lambda: Promise(0.5, 1, 800, 0), "confidence"),
        (lambda: Promise.of(800, -1, 0.95), "allowed"),
    ],
)
def test_bad_values_are_refused(ask, words):
    with pytest.raises(SettingsError) as caught:
        ask()
    assert words in str(caught.value)


def walk_ends_at(newly_wrong, allowed):
    """Return the last step before the first with too many newly wrong samples; -1 for none."""
    failed = np.flatnonzero(newly_wrong > allowed)
    return (failed[0] if failed.size else len(newly_wrong)) - 1


def broken(shape, samples, share, allowed, walks=1000):
    """Return how many walks end at a candidate that breaks more new samples than ``share``."""
    rng = np.random.default_rng(20)
    steps = np.arange(60)
    if shape == "nested":  # each sample breaks once, and stays so
        truth = share * steps / 40
        breaks_at = rng.random((walks, samples))
        seen = [np.searchsorted(np.sort(row), truth) for row in breaks_at]
    elif shape == "at the edge":  # safe for long, then just too much for ever
        truth = np.where(steps < 30, 0, share * 1.0001)
        seen = [np.where(steps < 30, 0, rng.binomial(samples, truth[-1])) for _ in range(walks)]
    else:  # up and down, with other samples at each step
        truth = share * (1 + np.sin(steps / 3)) * steps / 40
        seen = [rng.binomial(samples, truth) for _ in range(walks)]
    ends = [walk_ends_at(newly_wrong, allowed) for newly_wrong in seen]
    return sum(end >= 0 and truth[end] > share for end in ends) / walks


@pytest.mark.parametrize("shape", ["nested", "at the edge", "up and down"])
@pytest.mark.parametrize(("samples", "share"), [(800, 0.005), (800, 0.01), (3200, 0.005)])
def test_a_walk_keeps_its_promise(shape, samples, share):
    allowed = most_newly_wrong(samples, share, 0.95)
    # Of 1,000 walks 50 may fail; more than 66 would happen once in a hundred times.
    assert broken(shape, samples, share, allowed) <= 0.066


def test_a_walk_that_allows_more_breaks_its_promise():
    assert broken("nested", 800, 0.01, 4 + most_newly_wrong(800, 0.01, 0.95)) > 0.2


def test_ten_million_samples_take_no_time():
    started = time.perf_counter()
    assert most_newly_wrong(10_000_000, 0.5, 0.95) == 4_997_398
    promised_share(10_000_000, 5_000_000, 0.95)
    assert time.perf_counter() - started < 5
