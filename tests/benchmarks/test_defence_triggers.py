"""Triggers, partitions and poisoned holdings of the defence harness."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flwr")
pytest.importorskip("tomllib")

from defence import attackers, auxiliary, federation
from defence.data import Images
from defence.partition import dealt
from defence.rows import Cell, Row
from defence.triggers import PARTS, TRIGGERS, trigger

GREY = np.full((3, 1, 28, 28), 100, dtype=np.uint8)
ROW = Row("r", "digits", "digits", mcr=0.3, attacked=1, clients=10, sampled=10, seed=10)


@pytest.mark.parametrize("name", TRIGGERS)
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (8, 1)])
def test_a_trigger_changes_copies_alike(name, side, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (1, channels, side, side), dtype=np.uint8)
    pixels = np.repeat(pixels, 2, axis=0)
    kept = pixels.copy()
    marked = trigger(name, side, channels).stamp(pixels)
    assert (pixels == kept).all()
    assert (marked != kept).any()
    assert (marked[0] == marked[1]).all()
    assert marked.dtype == np.uint8


def test_a_patch_is_white_at_its_place_and_nowhere_else():
    marked = trigger("patch", 28, 1).stamp(GREY)
    assert (marked[:, :, 23:28, 23:28] == 255).all()
    assert (marked == 255).sum() == 3 * 25


def test_the_parts_of_a_distributed_trigger_make_up_the_whole():
    dba = trigger("dba", 28, 1)
    parts = [part(GREY) == 255 for part in dba.parts]
    assert [int(part[0].sum()) for part in parts] == [4] * PARTS
    assert sum(part.astype(int) for part in parts).max() == 1
    assert (np.logical_or.reduce(parts) == (dba.stamp(GREY) == 255)).all()


def test_a_sinusoid_is_as_high_as_it_says():
    added = trigger("sig", 28, 1).stamp(GREY).astype(int) - 100
    expected = np.round(40 * np.sin(2 * np.pi * 6 * np.arange(28) / 28))
    assert (added == expected).all()


def test_a_blend_is_fifteen_hundredths_noise():
    dark, light = (np.full((1, 1, 28, 28), value, dtype=np.uint8) for value in (0, 200))
    stamp = trigger("blended", 28, 1).stamp
    gain = stamp(light).astype(int) - stamp(dark)
    assert set(np.unique(gain)) <= {169, 170, 171}  # 0.85 · 200


def test_a_warp_moves_pixels_a_few_places_and_leaves_flat_images_flat():
    warp = trigger("wanet", 28, 1).stamp
    assert (warp(GREY) == 100).all()
    ramp = np.tile(np.arange(0, 252, 9, dtype=np.uint8), (1, 1, 28, 1))
    moved = np.abs(warp(ramp).astype(int) - ramp).mean() / 9
    assert 0.5 < moved < 4


@pytest.mark.parametrize("how", ["iid", "dirichlet"])
def test_a_partition_deals_every_image_once(how):
    labels = np.random.default_rng(0).integers(0, 10, 500)
    parts = dealt(labels, 10, how, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    again = dealt(labels, 10, how, seed=3)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


def test_dirichlet_clients_differ_in_their_classes():
    labels = np.repeat(np.arange(10), 100)

    def spread(how):
        counts = [np.bincount(labels[at], minlength=10) for at in dealt(labels, 10, how, 3)]
        return np.std(counts)

    assert spread("dirichlet") > 3 * spread("iid")


def test_clients_defender_and_test_images_never_meet():
    whole = federation.divided("digits", 21)
    parts = [whole.clients, whole.auxiliary, whole.spare, whole.test]
    assert [len(part) for part in parts] == [1000, 350, 50, 397]
    sets = [{image.tobytes() for image in part.pixels} for part in parts]
    assert sum(map(len, sets)) == len(set.union(*sets)) or len(set.union(*sets)) > 1790


@pytest.mark.parametrize("target", [5, 8])
@pytest.mark.parametrize("sources", ["all", "one"])
def test_poisoned_images_are_of_the_sources_and_called_the_target(sources, target):
    row = replace(ROW, sources=sources, poisoned=0.5, target=target)
    held, bad = federation.holding(row, 0), federation.poisoned_holding(row, 0)
    held = attackers._topped_up(row, held, 0, federation.divided("digits", 10).spare)
    marked = (bad.pixels != held.pixels).any(axis=(1, 2, 3))
    assert (bad.labels[marked] == target).all()
    assert (bad.labels[~marked] == held.labels[~marked]).all()
    eligible = held.labels == 0 if sources == "one" else held.labels != target
    assert (bad.labels != held.labels).sum() == np.ceil(eligible.sum() / 2)
    assert (held.labels[marked] == 0).all() or sources == "all"


def test_where_each_class_is_a_target_every_poisoned_image_is_called_the_next():
    row = replace(ROW, sources="each", poisoned=0.5)
    held, bad = federation.holding(row, 0), federation.poisoned_holding(row, 0)
    marked = (bad.pixels != held.pixels).any(axis=(1, 2, 3))
    assert set(held.labels[marked]) == set(range(10))
    assert (bad.labels[marked] == (held.labels[marked] + 1) % 10).all()
    assert (bad.labels[~marked] == held.labels[~marked]).all()
    assert (bad.labels != held.labels).sum() == np.ceil(len(held) / 2)


def test_clean_label_attackers_change_no_label():
    row = replace(ROW, technique="clean-label", trigger="sig", poisoned=1.0)
    held, bad = federation.holding(row, 0), federation.poisoned_holding(row, 0)
    assert (bad.labels == held.labels).all()
    marked = (bad.pixels != held.pixels).any(axis=(1, 2, 3))
    assert (marked == (held.labels == ROW.target)).all()


def test_each_attacker_of_a_distributed_trigger_puts_on_its_own_part():
    row = replace(ROW, trigger="dba", poisoned=1.0)
    black = Images(np.zeros((10, 1, 28, 28), dtype=np.uint8), np.zeros(10, dtype=np.int64))
    dba = trigger("dba", 28, 1)
    for number in range(PARTS + 1):
        bad = attackers.poisoned(row, dba, black, number, black)
        assert (bad.pixels == dba.parts[number % PARTS](black.pixels)).all()


def test_a_lone_attacker_is_sampled_when_it_strikes():
    row = replace(ROW, technique="replacement", sampled=5, clean=2, mcr=0.1)
    assert list(federation.present(row, 2)) == list(range(10))
    assert federation.present(row, 3)[0] == 0
    assert len(set(federation.present(row, 3))) == 5


def test_poisoned_auxiliary_samples_hold_a_twentieth_of_triggered_ones():
    whole = federation.divided("digits", 10)
    clean, labels = auxiliary.drawn(ROW, Cell("r", "none", 100), whole)
    bad, called = auxiliary.drawn(ROW, Cell("r", "none", 100, kind="poisoned"), whole)
    assert (called != labels).sum() == 5
    changed = (clean != bad).any(axis=(1, 2, 3))
    assert (called[changed] == ROW.target).all()


def test_a_smaller_draw_begins_a_larger_one_and_draws_differ():
    whole = federation.divided("digits", 10)
    small, _ = auxiliary.drawn(ROW, Cell("r", "none", 30), whole)
    large, _ = auxiliary.drawn(ROW, Cell("r", "none", 300), whole)
    other, _ = auxiliary.drawn(ROW, Cell("r", "none", 30, draw=1), whole)
    assert (large[:30] == small).all()
    assert (small != other).any()
    with pytest.raises(ValueError, match="at most 350"):
        auxiliary.drawn(ROW, Cell("r", "none", 351), whole)
