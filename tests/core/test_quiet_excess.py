"""How far classes stand out by the shares of an update that are quiet."""

from itertools import combinations

import numpy as np
import pytest

from flain_core.errors import LayerError
from flain_core.in_directions.quiet_excess import _pairs, quiet_excess


def bounded(logarithms):
    return np.clip(logarithms - np.median(logarithms), -0.4, 0.4)


def by_hand(quiet, whole, moved, of_sample):
    """The formulas, class by class and pair by pair."""
    classes = range(len(whole))
    alone = np.log([quiet[0][one, one] / whole[one, one] for one in classes])
    tells = np.array([np.corrcoef(moved[:, one], of_sample == one)[0, 1] for one in classes])
    alone -= 0.2 * bounded(np.log(1 - tells)) - 0.1 * bounded(np.log(moved.var(axis=0)))
    of_pairs = [[] for _ in classes]
    for pair in combinations(classes, 2):
        contrast = np.eye(len(whole))[pair[0]] - np.eye(len(whole))[pair[1]]
        share = (contrast @ quiet[1] @ contrast) / (contrast @ whole @ contrast)
        for one in pair:
            of_pairs[one].append(np.log(share))
    measures = alone, np.mean(of_pairs, axis=1)
    return sum((measure - measure.mean()) / measure.std() for measure in measures)


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_by_hand(seed):
    rng, (moved, of_sample) = np.random.default_rng(seed), seen(6, seed=seed)
    moved = moved @ rng.normal(size=(6, 6)) * np.geomspace(0.01, 100, 6)
    says = rng.normal(size=(6, 9))
    quiet = np.stack([products(says * rng.uniform(0.2, 0.6, (6, 1))) for _ in "ab"])
    given = products(says), moved, of_sample
    np.testing.assert_allclose(quiet_excess(quiet, *given), by_hand(quiet, *given), rtol=1e-9)


def of_shares(alone, pairs, moved, of_sample):
    """The excess where the update says as much for each class, and for nothing in common."""
    return quiet_excess(
        np.stack([np.diag(alone), np.diag(pairs)]), np.eye(len(alone)), moved, of_sample
    )


@pytest.mark.parametrize("why", ["it hardly moves", "it is told badly"])
def test_a_hard_class_does_not_come_before_an_attacked_one(why):
    """What training remembers of single samples is quiet too."""
    hard, of_sample = seen(8, noise=0.3)
    if why == "it hardly moves":
        hard[:, 2] *= 0.1
    else:
        hard[:, 2] += np.random.default_rng(9).normal(size=len(hard))
        hard[:, 2] *= hard[:, 0].std() / hard[:, 2].std()
    alone, pairs = np.full((2, 8), 0.3)
    pairs[[2, 5]] *= 1.1
    alone[2] *= 1.13
    alone[5] *= 1.1  # what a backdoor adds to an easy class
    assert of_shares(alone, pairs, hard, of_sample).argmax() == 5
    assert of_shares(alone, pairs, *seen(8, noise=0.3)).argmax() == 2


@pytest.mark.parametrize("least", [0.5, 1e-4, 1e-30, 0.0])
def test_a_reason_explains_so_much_and_no_more(least):
    """A score that does not move at all would explain any share."""
    moved, of_sample = seen(8)
    moved[:, 2] *= least
    alone, pairs = np.full((2, 8), 0.3)
    alone[2] = 0.8
    assert of_shares(alone, pairs, moved, of_sample).argmax() == 2


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
    quiet[0, 7, 7] = 0.45
    quiet[1, 5, 5] = 0.34
    quiet[:, 2, 2] *= share
    assert quiet_excess(quiet, np.eye(10), moved, of_sample).argmax() == 7


def test_a_class_of_next_to_no_share_stands_out_least():
    alone, pairs = np.full((2, 8), 0.3)
    alone[2], alone[5] = 1e-5, 0.45
    assert of_shares(alone, pairs, *seen(8)).argmax() == 5


def test_a_class_of_a_great_share_does_not_silence_the_others():
    alone, pairs = np.full((2, 6), 4e-4)
    alone[4], alone[2] = 1.0, 8e-4
    assert list(np.argsort(of_shares(alone, pairs, *seen(6)))[::-1][:2]) == [4, 2]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(place, number):
    """A sum of the measures of which one is missing would still order the classes."""
    moved, of_sample = seen(6)
    given = [np.stack([0.3 * np.eye(6)] * 2), np.eye(6), moved]
    given[place][..., 1, 1] = number
    with pytest.raises(LayerError, match="not finite: weights are too large"):
        quiet_excess(*given, of_sample)


def test_what_differs_by_rounding_alone_stands_out_nowhere():
    rng, (moved, of_sample) = np.random.default_rng(2), seen(7)
    alike = np.stack([0.3 * np.eye(7) * (1 + 1e-15 * rng.normal(size=7))] * 2)
    alike[1, 4, 4] = 0.4
    alone = quiet_excess(alike, np.eye(7), np.ones_like(moved), of_sample)
    np.testing.assert_allclose(np.delete(alone, 4), np.delete(alone, 4)[0], rtol=1e-6)
    assert alone.argmax() == 4


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


@pytest.mark.parametrize("classes", [1, 2, 3, 10])
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
