"""The auxiliary samples, divided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flain_core as flain
from flain_core import Settings
from flain_core.auxiliary.samples import Samples
from flain_core.in_memory.held_back import split
from flain_core.promise import samples_needed

PROBABILITY = Settings(measure="probability")


def numbered(count):
    """Samples that can be told apart: each is its own number, which is its label too."""
    return Samples.of((np.arange(count, dtype=np.float32)[:, None], np.arange(count)))


def numbers(samples):
    if samples is None:
        return np.arange(0)
    np.testing.assert_array_equal(samples.x[:, 0], samples.y)
    return samples.y


@given(st.integers(2, 2000), st.floats(0.0, 0.9), st.integers(0, 5))
def test_each_sample_has_exactly_one_use(count, share, seed):
    settings = Settings(measure="probability", held_back=share)
    if round(share * count) >= count:
        with pytest.raises(flain.DataError, match="are held back"):
            split(numbered(count), settings, seed)
        return
    searching, held_back = map(numbers, split(numbered(count), settings, seed))
    together = np.concatenate([searching, held_back])
    np.testing.assert_array_equal(np.sort(together), np.arange(count))
    # Their order stays, so that batches are the same whatever the seed of the random numbers.
    assert (np.diff(searching) > 0).all()
    assert (np.diff(held_back) > 0).all()


def test_a_search_that_would_see_one_class_alone_has_all_samples():
    x, y = np.arange(200, dtype=np.float32)[:, None], np.zeros(200, dtype=int)
    rare = int(np.random.default_rng(0).permutation(200)[0])
    y[rare] = 1
    samples = Samples.of((x, y))
    searching, kept = split(samples, PROBABILITY, 0)
    assert (len(searching), kept) == (200, None)
    with pytest.raises(flain.DataError, match="so few of all but one class"):
        split(samples, Settings(measure="probability", promise=0.1), 0)
    y[:] = 0
    assert len(split(Samples.of((x, y)), PROBABILITY, 0)[1]) == 40


@pytest.mark.parametrize(
    ("count", "held_back"),
    [(1, 0), (199, 0), (200, 40), (300, 60), (1280, 256), (1281, 257), (5000, 5000 - 1024)],
)
def test_a_fifth_of_enough_samples_is_held_back_and_a_thousand_search(count, held_back):
    searching, kept = split(numbered(count), PROBABILITY, 0)
    assert len(numbers(kept)) == held_back
    assert len(searching) == count - held_back


def test_none_is_held_back_where_none_is_asked_for():
    settings = Settings(measure="probability", held_back=0)
    searching, held_back = split(numbered(3000), settings, 0)
    assert held_back is None
    np.testing.assert_array_equal(numbers(searching), np.arange(3000))


def test_the_score_takes_all_samples():
    searching, held_back = split(numbered(3000), Settings(measure="score"), 0)
    assert held_back is None
    assert len(searching) == 3000


def test_a_promise_holds_some_of_few_samples_back():
    """As many as the promise needs where one may become wrong, but no more than 60 %."""
    for promise, held_back in ((0.5, 20), (0.1, samples_needed(0.1, 0.95, allowed=1)), (0.01, 60)):
        settings = Settings(measure="probability", promise=promise)
        assert len(split(numbered(100), settings, 0)[1]) == held_back


def test_the_seed_decides():
    one, same, other = (split(numbered(500), PROBABILITY, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(numbers(one[1]), numbers(same[1]))
    np.testing.assert_array_equal(numbers(one[0]), numbers(same[0]))
    assert not np.array_equal(numbers(one[1]), numbers(other[1]))


def test_the_place_of_a_sample_says_nothing_about_its_use():
    """Over many seeds each of the samples is held back about as often as any other."""
    often = np.zeros(200)
    for seed in range(400):
        often[numbers(split(numbered(200), PROBABILITY, seed)[1])] += 1
    # 80 times on average, with a standard deviation of 8.
    assert 40 < often.min() < often.max() < 120


@given(st.integers(200, 600), st.integers(1, 8), st.integers(0, 5))
def test_copies_of_a_sample_lie_on_one_side_and_count_once(count, copies, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, -(-count // copies), count)
    samples = Samples.of((y[:, None].astype(np.float32), y))
    searching, held_back = map(numbers, split(samples, PROBABILITY, seed))
    assert not np.isin(held_back, searching).any()
    assert len(np.unique(held_back)) == len(held_back)
    np.testing.assert_array_equal(np.union1d(held_back, searching), np.unique(y))
    # No more is kept from the search than without copies.
    assert len(searching) >= count - round(0.2 * count)
    again = split(samples, PROBABILITY, seed)
    np.testing.assert_array_equal(numbers(again[1]), held_back)


def test_as_many_pairs_are_held_back_as_there_is_room_for():
    y = np.repeat(np.arange(10), 2)
    samples = Samples.of((y[:, None].astype(np.float32), y))
    for seed in range(5):
        settings = Settings(measure="probability", held_back=0.5)
        searching, held_back = map(numbers, split(samples, settings, seed))
        assert len(held_back) == len(np.unique(held_back)) == 5
        np.testing.assert_array_equal(searching, y[~np.isin(y, held_back)])


def test_copies_are_found_in_several_inputs():
    x = {"a": np.arange(8).reshape(4, 2) % 4, "b": np.array([[0.0], [1.0], [0.0], [1.0]])}
    assert Samples.of((x, np.arange(4))).first_alike.tolist() == [0, 1, 0, 1]
    x["b"] = np.array([[0.0], [1.0], [2.0], [1.0]])
    assert Samples.of((x, np.arange(4))).first_alike.tolist() == [0, 1, 2, 1]
    assert Samples.of(((x["a"], x["b"]), np.arange(4))).first_alike.tolist() == [0, 1, 2, 1]


def test_a_promise_cannot_be_borne_out_by_copies_alone():
    samples = Samples.of((np.ones((300, 2)), np.zeros(300, dtype=int)))
    assert split(samples, PROBABILITY, 0)[1] is None
    for settings in (
        Settings(measure="probability", promise=0.1),
        Settings(measure="probability", held_back=0.3),
    ):
        with pytest.raises(flain.DataError, match="copies of each other"):
            split(samples, settings, 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_large_inputs_are_divided_without_a_copy(seed):
    small = numbered(1000)
    x = np.zeros((1000, 5000), np.float32)
    x[:, 0] = small.x[:, 0]
    whole = Samples.of((x, np.arange(1000)))
    divided, here = split(whole, PROBABILITY, seed), split(small, PROBABILITY, seed)
    for alike, there in zip(here, divided, strict=True):
        np.testing.assert_array_equal(numbers(there), numbers(alike))
        np.testing.assert_array_equal(there.first_alike, np.arange(len(there)))
        assert there.held is whole.held
        assert there.usual_batch == whole.usual_batch
        assert not there.are_pixels
        batches = list(there.batches(300))
        np.testing.assert_array_equal(np.concatenate([each.y for each in batches]), alike.y)
        np.testing.assert_array_equal(batches[-1].x[:, 0], batches[-1].y)
        # Labels and rows alone are kept.
        own = {name: value for name, value in vars(there).items() if name != "held"}
        kept = [value for value in own.values() if isinstance(value, np.ndarray)]
        assert sum(value.nbytes for value in kept) <= 4 * 8 * 1000
