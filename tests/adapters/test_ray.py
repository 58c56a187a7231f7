"""Auxiliary samples on a Ray cluster of two processes give the answer that they give here."""

import re
from pathlib import Path

import backdoored
import numpy as np
import pytest
import ray_parts
from in_process import as_elsewhere

import flain_core as flain
import flain_numpy
from flain_cli import example
from flain_core import Settings

pytest.importorskip("ray")
pytest.importorskip("flain_ray")

from ray_cases import (
    CLEAN,
    EXAMPLE,
    FINAL,
    INITIAL,
    assert_same,
    assert_same_weights,
    both,
    cluster,  # noqa: F401
    here,
    shards,
)

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "ray.md"
ASR = backdoored.triggered(170, seed=12)
TRIGGERED = example.files().paths[4]

IN_PARTS = [{"actors": 1}, {"actors": 2}, {"actors": 2, "shards": 7}]
in_parts = pytest.mark.parametrize("spread", IN_PARTS, ids=["1 shard", "2 shards", "7 shards"])


@in_parts
def test_the_backdoored_network_is_purified_as_here(spread):
    result, expected = both(CLEAN, FINAL, INITIAL, probes={"ASR": ASR}, spread=spread)
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)
    assert result.before.probes["ASR"] > 0.9 > 0.1 > result.after.probes["ASR"]


@in_parts
def test_several_layers_of_the_example_are_purified_as_here(spread):
    result, expected = both(
        EXAMPLE["data"],
        flain_numpy.load(EXAMPLE["final"]),
        flain_numpy.load(EXAMPLE["initial"]),
        probes={"ASR": TRIGGERED},
        spread=spread,
        layers=["conv2", "fc1"],
        settings=Settings(tolerance=0.01),
    )
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)
    assert result.after.probes["ASR"] < 0.02


def test_a_score_of_the_callers_own_is_measured_as_here():
    result, expected = both(
        CLEAN, FINAL, INITIAL, score=ray_parts.margin, settings=Settings(tolerance=0.2)
    )
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)


def test_what_does_not_fit_into_memory_is_run_again():
    result, expected = both(CLEAN, FINAL, INITIAL, spread={"memory_limit": 0})
    assert_same(result, expected)


def test_probes_may_have_fewer_batches_than_the_samples_or_more():
    for count in (1, 1000):
        probe = backdoored.triggered(3 * count, seed=5)
        spread = {"shards": 7, "batch_size": 40}
        assert_same(*both(CLEAN, FINAL, INITIAL, probes={"ASR": probe}, spread=spread))


def test_labels_in_rows_are_remarked_on_as_here():
    one_hot = CLEAN[0], np.eye(3)[CLEAN[1]]
    result, expected = both(one_hot, FINAL, INITIAL)
    assert_same(result, expected)
    assert any("one-hot" in note for note in result.notes)


def test_the_example_of_the_page_runs():
    usage, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"model": FINAL, "initial": INITIAL, "x": CLEAN[0], "y": CLEAN[1]}
    exec(usage, names)
    assert_same(
        names["result"],
        here(),
    )


def test_two_models_can_be_purified_with_the_same_shards():
    other_initial, other_final = backdoored.networks(seed=5)
    with shards() as held:
        first = flain.purify(FINAL, initial=INITIAL, data=held)
        second = flain.purify(other_final, initial=other_initial, data=held)
    assert_same(
        first,
        here(),
    )
    expected = flain.purify(
        other_final, initial=other_initial, data=CLEAN, batch_size=150, settings=as_elsewhere()
    )
    assert_same(second, expected)
