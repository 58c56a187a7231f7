"""A holder that answers what cannot be true is left out, or ends the purification."""

import numpy as np
import pytest
from coordinated import CLEAN, assert_same, in_one_place, purify
from in_process import InProcess, split

import flain_core as flain
from flain_core import FlainWarning, Settings
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging


def statistics(**changes):
    def tamper(arrays):
        return arrays | changes if "count" in arrays else arrays

    return tamper


def clean(change):
    def tamper(arrays):
        return arrays | {"clean": change(arrays["clean"])} if "clean" in arrays else arrays

    return tamper


def column(index, value):
    def change(rows):
        rows = rows.copy()
        rows[-1, index] = value
        return rows

    return clean(change)


def lost(index, value):
    def tamper(arrays):
        if "loss" not in arrays:
            return arrays
        rows = arrays["loss"].copy()
        rows[-1, index] = value
        return arrays | {"loss": rows}

    return tamper


def proof(error):
    def tamper(arrays):
        return arrays | {"error": np.array(error)} if "faithful" in arrays else arrays

    return tamper


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


LIES = {
    "no statistics": without("count"),
    "one sum missing": without("total_abs"),
    "of another layer": statistics(total=np.zeros(5)),
    "infinite": statistics(total=np.full(12, np.inf)),
    "not a number": statistics(total_square=np.full(12, np.nan)),
    "no samples": statistics(count=np.array(0)),
    "minus one sample": statistics(count=np.array(-1)),
    "integers instead of sums": statistics(total=np.zeros(12, dtype=int)),
    "objects": statistics(total=np.array([object()] * 12)),
    "text": statistics(count=np.array("seven")),
    "a sum larger than that of the sizes": statistics(total=np.full(12, 1e9)),
    "sizes that their squares exclude": statistics(total_abs=np.full(12, 1e9)),
    "more active values than values": statistics(active=np.full(12, 10**9)),
    "fewer than none active": statistics(active=np.full(12, -1)),
    "more right than there are": column(0, 1e6),
    "fewer right than none": column(0, -1.0),
    "half a sample": column(0, 0.5),
    "infinitely many right": column(0, np.inf),
    "no sample at all": column(1, 0.0),
    "half a sample in all": column(1, 100.5),
    "another number of samples": column(1, 1e6),
    "negative rounding": column(2, -1.0),
    "too few candidates": clean(lambda rows: rows[:-1]),
    "too many candidates": clean(lambda rows: np.vstack([rows, rows])),
    "a column too few": clean(lambda rows: rows[:, :2]),
    "no scores": without("clean"),
    "no losses": without("loss"),
    "losses of too few": lambda arrays: (
        arrays | {"loss": arrays["loss"][:-1]} if "loss" in arrays else arrays
    ),
    "losses without a column": lambda arrays: (
        arrays | {"loss": arrays["loss"][:, :5]} if "loss" in arrays else arrays
    ),
    "more lost than there is": lost(0, 1e6),
    "more gained than there is": lost(0, -1e6),
    "a loss that is not a number": lost(0, np.nan),
    "losses whose squares are less than none": lost(1, -1.0),
    "losses whose squares are too many": lost(1, 1e6),
    "infinite squares": lost(1, np.inf),
    "fewer than none newly wrong": lost(2, -1.0),
    "more newly wrong than there are": lost(2, 101.0),
    "half a sample newly wrong": lost(2, 0.5),
    "losses of another number of samples": lost(3, 99.0),
    "a probability of less than nothing": lost(4, -1.0),
    "a probability of more than one": lost(4, 101.0),
    "losses with negative rounding": lost(5, -1.0),
    "losses with endless rounding": lost(5, 1e6),
    "no proof": without("faithful"),
    "a faithful cut that is infinitely wrong": proof(np.inf),
    "a faithful cut that is quite wrong": proof(0.9),
    "a faithful cut that is less than right": proof(-1.0),
    "a faithful cut that is not a number": proof(np.nan),
    "more rounding than samples": column(2, 1e6),
    "squares too large to be multiplied": statistics(
        total_abs=np.full(12, 1e300), total_square=np.full(12, 1e308)
    ),
    "more values than can be counted": statistics(count=np.array(1e300)),
    "a proof that is no number": lambda arrays: (
        arrays | {"error": np.zeros(3)} if "faithful" in arrays else arrays
    ),
}


def lying(tamper, who="part 001"):
    return lambda name, question, arrays: tamper(arrays) if name == who else arrays


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_holder_that_answers_what_cannot_be_true_is_left_out(lie):
    parts, size = split(CLEAN, 3)
    holders = InProcess(parts, lookahead=3, tamper=lying(lie))
    with pytest.warns(FlainWarning, match="part 001, which holds .* is left out from now on"):
        result = purify(CoordinatedSamples(holders, may_leave=True))
    others = tuple(np.concatenate([parts[0][i], parts[2][i]]) for i in (0, 1))
    assert_same(result, in_one_place(others, batch_size=size))


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_or_the_purification_fails_where_none_may_leave(lie):
    holders = InProcess(split(CLEAN, 3)[0], tamper=lying(lie))
    with pytest.raises(flain.DataError, match="part 001"):
        purify(CoordinatedSamples(holders))


def test_too_few_holders_are_an_error():
    holders = InProcess(split(CLEAN, 3)[0], tamper=lying(without("count")))
    samples = CoordinatedSamples(holders, may_leave=True, least=3)
    with (
        pytest.warns(FlainWarning, match="left out"),
        pytest.raises(flain.DataError, match=r"expected at least 3 holders .*; 2 did"),
    ):
        purify(samples)


@pytest.mark.filterwarnings("ignore:hardly flipped")
@pytest.mark.parametrize("measure", ["probability", "score"])
@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_a_robust_mean_bounds_what_a_possible_lie_can_do(rule, measure):
    """One of five says that the trigger's inputs are the most active, and that nothing is lost."""
    parts, _ = split(CLEAN, 5)
    triggered = np.arange(12) >= 9

    def lie(arrays):
        if "count" in arrays:
            count = arrays["count"]
            most = np.where(triggered, 100.0, 0.0) * count
            active = np.where(triggered, count, 0)
            squares = np.where(triggered, 1e4, 0.0) * count
            return arrays | {
                "total": most,
                "total_abs": most,
                "total_square": squares,
                "active": active,
            }
        if "clean" in arrays:
            rows = arrays["clean"].copy()
            rows[:, 0] = rows[:, 1]
            arrays = arrays | {"clean": rows}
        if "loss" in arrays:
            arrays = arrays | {"loss": arrays["loss"] * np.array([0, 0, 0, 1, 1, 1])}
        return arrays

    def flipped(merging):
        holders = InProcess(parts, tamper=lying(lie))
        data = CoordinatedSamples(holders, merging=merging)
        return purify(data, settings=Settings(tolerance=0.02, measure=measure)).layers[0].flipped

    assert not flipped(Merging()).any() or not flipped(Merging())[triggered].any()
    assert flipped(Merging(rule))[triggered].all()
