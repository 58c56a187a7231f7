"""Data sets of Ray as auxiliary samples: read and cut on a worker, with the answer of arrays."""

import gc
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_core import Settings

ray = pytest.importorskip("ray")
flain_ray = pytest.importorskip("flain_ray")
pytest.importorskip("pyarrow", reason="Ray's data sets need pyarrow")

pytestmark = [
    pytest.mark.slow,
    # Ray and pyarrow warn of themselves.
    pytest.mark.filterwarnings("ignore"),
]

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT, ROOT / "backends", ROOT / "adapters", ROOT / "tests")
INITIAL, FINAL = backdoored.networks()
X, Y = backdoored.samples(300, seed=11)
ASR = backdoored.triggered(170, seed=12)


@contextmanager
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, FOLDERS)))
        with quietly():
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        with quietly():
            ray.shutdown()
            gc.collect()


def dataset(x, y, blocks=5):
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [
        {"features": features, "label": int(label)} for features, label in zip(x, y, strict=True)
    ]
    return ray.data.from_items(rows, override_num_blocks=blocks)


def purified(shards):
    settings = Settings(flip="neurons", held_back=0)
    return flain.purify(FINAL, initial=INITIAL, data=shards, settings=settings)


def worth(scores, y):
    return scores.argmax(axis=1) == y


@pytest.mark.parametrize("memory_limit", [2**31, 1000], ids=["kept", "streamed"])
@pytest.mark.parametrize("score", [None, worth])
def test_a_data_set_gives_the_answer_of_arrays(memory_limit, score, monkeypatch):
    options = {"actors": 2, "shards": 3, "memory_limit": memory_limit}
    options |= {"score": score} if score else {}
    data, probe = dataset(X, Y), dataset(*ASR)
    with flain_ray.Shards((X, Y), probes={"ASR": ASR}, **options) as shards:
        expected = purified(shards)
    # Nothing that gives samples may run here.
    monkeypatch.setattr(ray.data.Dataset, "iter_batches", None)
    with flain_ray.Shards(data, probes={"ASR": probe}, **options) as shards:
        assert shards.facts.classify is not bool(score)
        result = purified(shards)
    assert (result.before, result.after) == (expected.before, expected.after)
    assert result.notes == expected.notes
    assert result.layers[0].steps == expected.layers[0].steps
    weights = (each.model.layers()["fc1"].weight for each in (result, expected))
    np.testing.assert_array_equal(*weights)


def test_shards_serve_several_purifications():
    shards = flain_ray.Shards(dataset(X, Y), actors=1)
    scores = []
    for _ in range(2):
        with shards:
            scores.append(purified(shards).after)
    assert scores[0] == scores[1]


def test_samples_that_cannot_be_used_are_refused():
    wrong = np.where(np.arange(len(X))[:, np.newaxis] == 250, np.nan, X)
    with pytest.raises(flain.DataError, match="NaN or infinity"):
        flain_ray.Shards(dataset(wrong, Y), actors=1)
    with pytest.raises(flain.SettingsError, match="at most 3 shards"):
        flain_ray.Shards(dataset(X, Y), actors=1, shards=9, batch_size=100)
    unlabelled = dataset(X, Y).drop_columns(["label"])
    with pytest.raises(flain.DataError, match="columns of which one"):
        flain_ray.Shards(unlabelled, actors=1)


def test_a_data_set_that_fails_is_named():
    def broken(row):
        raise OSError("the disk is gone")

    with pytest.raises(flain.DataError, match="the Dataset failed after 0 items"):
        flain_ray.Shards(dataset(X, Y).map(broken), actors=1)
