"""What is fitted to a layer's inputs, and how long it is kept."""

import tracemalloc

import numpy as np
import pytest
from direction_cases import (
    COUNT,
    IN,
    TOWARD,
    arrays,
    directions,
    inputs,
)

from flain_core.in_directions import fits
from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_core.in_directions.ridge import Ridge, inverse_of_lower
from flain_numpy import Dense, Network


@pytest.mark.parametrize("size", [1, 47, 48, 96, 201])
def test_a_triangle_is_inverted(size):
    rng = np.random.default_rng(size)
    lower = np.tril(rng.normal(size=(size, size)) / size) + np.diag(rng.uniform(1, 2, size))
    np.testing.assert_allclose(inverse_of_lower(lower) @ lower, np.eye(size), atol=1e-10)
    assert (np.triu(inverse_of_lower(lower), 1) == 0).all()


def test_a_second_look_at_a_candidate_gives_the_same():
    found = directions(inputs())
    first, taken = arrays(found.candidate(45))[0], found.taken(45, unseen=True)
    found.candidate(49)
    np.testing.assert_array_equal(arrays(found.candidate(45))[0], first)
    np.testing.assert_array_equal(found.taken(45, unseen=True), taken)


@pytest.mark.parametrize("toward", [None, TOWARD])
@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("limit", [0, 10**9])
def test_a_candidate_is_fitted_once(toward, positions, limit, monkeypatch):
    """Also where nothing is small enough to be kept, as far as it is for one level."""
    x = inputs(COUNT * positions).reshape(COUNT, positions, IN).swapaxes(1, 2)
    found, roots, cholesky = directions(x, toward=toward), [], np.linalg.cholesky
    shares = {level: share for level, share, _ in found._parts(53)}
    monkeypatch.setattr(fits, "_BYTES_KEPT", limit)
    monkeypatch.setattr(np.linalg, "cholesky", lambda a: roots.append(a) or cholesky(a))
    found.taken(53, unseen=True)
    assert len(roots) == len(shares)
    found.taken(53)
    found.candidate(53)
    of_all = sum(share > 0 for share in shares.values())
    again = 0 if limit or len(shares) == 1 else 2 * of_all
    assert len(roots) == len(shares) + again


@pytest.mark.parametrize("toward", [None, TOWARD])
def test_roots_that_are_too_large_are_not_needed_again(toward, monkeypatch):
    found, roots, root = directions(inputs(200), toward=toward), [], Ridge.root
    monkeypatch.setattr(Ridge, "root", lambda self: roots.append(self) or root(self))
    monkeypatch.setattr(fits, "_BYTES_KEPT", 100_000)
    found.taken(53, unseen=True)
    fitted = len(roots)
    padded = np.zeros(10**6)
    assert found._fits._kept(("root", 999), lambda: padded) is padded
    found._fits._last.clear()
    found.taken(53)
    found.candidate(53)
    assert len(roots) == fitted


# What is largest goes first, and the oldest of equals; what is too large itself evicts nothing.
@pytest.mark.parametrize(
    ("sizes", "kept"),
    [((30, 30, 30), "bc"), ((10, 40, 20), "ac"), ((70, 10, 20), "bc"), ((10, 20, 70), "ab")],
)
def test_what_is_largest_is_kept_last(sizes, kept, monkeypatch):
    monkeypatch.setattr(fits, "_BYTES_KEPT", 64)
    found = directions(inputs())
    for name, size in zip("abc", sizes, strict=True):
        given = np.zeros(size, dtype=np.int8)
        assert found._fits._kept((name, 1), lambda given=given: given) is given
    assert "".join(name for name, _ in found._fits._memory) == kept
    name = kept[0], 1
    assert found._fits._kept(name, lambda: None) is found._fits._memory[name]


def test_roots_of_other_levels_go_before_what_is_larger(monkeypatch):
    """A root is not needed again where there is a solution."""
    monkeypatch.setattr(fits, "_BYTES_KEPT", 64)
    found = directions(inputs())._fits
    for kind, level, size in [("root", 1, 20), ("update", 1, 30), ("root", 2, 10)]:
        found._kept((kind, level), lambda size=size: np.zeros(size, dtype=np.int8))
    found._kept(("update", 2), lambda: np.zeros(20, dtype=np.int8))
    assert set(found._memory) == {("update", 1), ("root", 2), ("update", 2)}


def test_any_whole_number_is_a_level():
    found = directions(inputs())._fits
    for level in (0, -3, 90):
        assert found.root(level) is found.root(level)
        expected = Ridge(found.space, found.space.strength(level)).root()
        np.testing.assert_array_equal(found.root(level), expected)


def test_what_leaves_a_sample_out_is_made_only_for_that(monkeypatch):
    found = directions(inputs(), toward=TOWARD)
    monkeypatch.setattr(Ridge, "without", lambda *_, **__: pytest.fail("not needed"))
    found.taken(53)
    found.candidate(53)


def test_a_fit_takes_little_more_than_what_it_keeps_of_many_positions():
    count, positions = 20, 100
    x = inputs(count * positions).reshape(count, positions, IN).swapaxes(1, 2)
    kept = count * positions**2 * 8
    tracemalloc.start()
    found = directions(x)
    found.taken(40)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < most < 2.5 * kept


def test_a_fit_keeps_nothing_as_large_as_the_inputs_or_the_weight():
    """A search keeps every fit it tried, and a layer may have ten thousand inputs."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(40, 5000)), rng.normal(size=(30, 5000))
    network = Network([Dense("only", weight, np.zeros(30))])
    space = InputSpace.of(x, bias=True)
    found = Directions(network, network.layers()["only"], weight - 1, 2.0, space)
    found.change(41)  # what all fits share is computed by now
    tracemalloc.start()
    for number in range(42, 48):
        found.taken(number, unseen=True)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 6 * 30 * 5000 * 8 / 2


def test_more_samples_than_inputs_cost_no_matrix_over_the_samples():
    x = inputs(4000)
    tracemalloc.start()
    directions(x).taken(45, unseen=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * x.nbytes
