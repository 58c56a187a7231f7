"""What of flain_ray needs no cluster."""

import re
from pathlib import Path

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere

import flain_core as flain

PAGE = Path(__file__).parents[2] / "docs" / "ray.md"


def test_another_engine_is_as_short_as_the_page_says():
    _, engine = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    initial, model = backdoored.networks()
    x, y = backdoored.samples(200, seed=11)
    names = {"flain": flain, "model": model, "initial": initial, "x": x, "y": y}
    exec(engine, names)
    result = names["result"]
    expected = flain.purify(
        model, initial=initial, data=(x, y), batch_size=100, settings=as_elsewhere()
    )
    assert result.layers[0].threshold == expected.layers[0].threshold
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)
    for name, layer in expected.model.layers().items():
        np.testing.assert_array_equal(result.model.layers()[name].weight, layer.weight)


def shards(**options):
    flain_ray = pytest.importorskip("flain_ray")
    return flain_ray.Shards(backdoored.samples(30, seed=1), **{"actors": 2} | options)


REFUSED = {
    "no actor": ({"actors": 0}, "actors"),
    "fewer shards than actors": ({"shards": 1}, "shards, at least one per actor"),
    "more shards than samples": ({"shards": 31}, "at most 30 shards, .* 30 batches of 1; got 31"),
    "more shards than batches": (
        {"shards": 4, "batch_size": 10},
        "at most 3 shards, as 30 samples make 3 batches of 10; got 4",
    ),
    "no candidate": ({"lookahead": 0}, "lookahead"),
    "no time": ({"timeout": 0}, "timeout in seconds above 0"),
    "words for time": ({"timeout": "a minute"}, "timeout in seconds above 0"),
    "an option that Ray lacks": ({"options": {"num_cpu": 1}}, "num_cpu"),
    "an option out of range": ({"options": {"num_cpus": -1}}, "num_cpus"),
    "no options": ({"options": 4}, "options"),
    "a probe without a name": ({"probes": [1]}, "probes by name"),
}


@pytest.mark.parametrize(("options", "told"), REFUSED.values(), ids=REFUSED)
def test_options_are_refused_before_anything_starts(options, told):
    with pytest.raises(flain.SettingsError, match=told):
        shards(**options)


def test_an_unknown_option_is_refused_before_anything_is_read():
    with pytest.raises(TypeError, match=r"no option batchsize; .* batch_size"):
        shards(batchsize=5)


def test_samples_are_read_before_anything_starts():
    flain_ray = pytest.importorskip("flain_ray")
    with pytest.raises(flain.DataError, match="NaN"):
        flain_ray.Shards((np.full((4, 12), np.nan), np.zeros(4, int)), actors=1)


def test_shards_outside_of_a_with_statement_are_refused():
    initial, final = backdoored.networks()
    held = shards()
    with pytest.raises(flain.SettingsError, match="inside a with statement"):
        flain.purify(final, initial=initial, data=held)


def test_no_shard_is_left_without_a_batch():
    assert shards(actors=7).batch_size == 4
    assert shards(actors=1).batch_size == 30
    assert shards(actors=2, batch_size=5).batch_size == 5
