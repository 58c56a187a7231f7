"""Dense layers that matter little, as gates do: ``"auto"`` passes them by."""

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_numpy import Dense, Network

CLEAN = backdoored.samples(400, seed=11)
ASR = backdoored.triggered(300, seed=12)
INITIAL, FINAL = backdoored.networks()


def behind(network, *added):
    """A network behind layers that pass its inputs on, and change them a little."""
    width = CLEAN[0].shape[1]
    noise = [np.random.default_rng(seed).normal(size=(width, width)) for seed in range(len(added))]
    gates = [
        Dense(f"gate{index}", (np.eye(width) + size * each).astype(np.float32))
        for index, (size, each) in enumerate(zip(added, noise, strict=True))
    ]
    return Network([*gates, *network.operations])


def purify(initial, final, **options):
    return flain.purify(final, initial=initial, data=CLEAN, probes={"ASR": ASR}, **options)


@pytest.mark.parametrize("gates", [1, 2])
def test_auto_goes_on_to_the_first_that_matters(gates):
    result = purify(behind(INITIAL, *[0.0] * gates), behind(FINAL, *[1e-4] * gates))
    (layer,) = result.layers
    assert layer.name == "fc1"
    assert result.verdict == "flipped"
    assert result.after.probes["ASR"] < 0.05 < 0.9 < result.before.probes["ASR"]
    named = ", ".join(repr(f"gate{index}") for index in range(gates))
    assert f'"auto" passed by {named}, of which everything could be' in " ".join(result.notes)


def test_one_that_training_did_not_change_is_no_further_layer():
    result = purify(behind(INITIAL, 0.0, 0.0), behind(FINAL, 1e-4, 0.0))
    assert result.layers[0].name == "fc1"
    assert "\"auto\" passed by 'gate0', of" in " ".join(result.notes)
    assert "\"auto\" passed by 'gate1', which training did not change" in " ".join(result.notes)


def test_nor_the_first_one():
    result = purify(behind(INITIAL, 0.0), behind(FINAL, 0.0))
    assert result.layers[0].name == "fc1"
    assert "\"auto\" passed by 'gate0', which training did not change" in " ".join(result.notes)
    with pytest.raises(flain.WeightsError, match="gate0"):
        purify(behind(INITIAL, 0.0), behind(FINAL, 0.0), layers="gate0")


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_one_that_is_named_is_searched_and_called_hardly_flipped():
    result = purify(behind(INITIAL, 0.0), behind(FINAL, 1e-4), layers="gate0")
    assert result.verdict == "hardly flipped"
    assert "what training added there matters little to the scores" in " ".join(result.warnings)
    assert result.layers[0].stop_reason == "exhausted"
    assert result.after.probes["ASR"] > 0.9
    assert not any("passed by" in note for note in result.notes)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_the_last_is_kept_where_none_matters():
    result = purify(behind(FINAL, 0.0, 0.0), behind(FINAL, 1e-4, 1e-4))
    assert result.layers[0].name == "gate1"
    assert result.verdict == "hardly flipped"
