"""Dense layers that matter little, as gates do: ``"auto"`` goes on to the next ones."""

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
    names = [f"gate{index}" for index in range(gates)]
    assert [layer.name for layer in result.layers] == [*names, "fc1"]
    assert result.verdict == "flipped"
    assert result.after.probes["ASR"] < 0.05 < 0.9 < result.before.probes["ASR"]
    told = f"\"auto\" went on from {', '.join(map(repr, names))} to 'fc1', as everything could be"
    assert told in " ".join(result.notes)
    assert any("flipped: of 'fc1'" in note for note in result.notes)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_what_was_flipped_before_stays_flipped():
    """All layers matter little to a model that was trained before the attackers came."""
    start = backdoored.networks()[0]
    update = {
        name: layer.weight + 1e-6 * (FINAL.layers()[name].weight - start.layers()[name].weight)
        for name, layer in FINAL.layers().items()
    }
    base = FINAL.replace(update)
    result = purify(FINAL, base)
    assert len(result.layers) == len(FINAL.layers())
    for name, layer in result.model.layers().items():
        assert not np.array_equal(layer.weight, base.layers()[name].weight)


def test_those_that_training_did_not_change_are_passed_by():
    result = purify(behind(INITIAL, 0.0, 0.0), behind(FINAL, 1e-4, 0.0))
    assert [layer.name for layer in result.layers] == ["gate0", "fc1"]
    result = purify(behind(INITIAL, 0.0, 0.0), behind(FINAL, 0.0, 1e-4))
    assert [layer.name for layer in result.layers] == ["gate1", "fc1"]
    assert "\"auto\" passed by 'gate0', which training did not change" in " ".join(result.notes)
    with pytest.raises(flain.WeightsError, match="gate0"):
        purify(behind(INITIAL, 0.0), behind(FINAL, 0.0), layers="gate0")


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_one_that_is_named_is_searched_and_called_hardly_flipped():
    result = purify(behind(INITIAL, 0.0), behind(FINAL, 1e-4), layers="gate0")
    assert result.verdict == "hardly flipped"
    assert "or it matters little to the scores" in " ".join(result.warnings)
    assert result.layers[0].stop_reason == "exhausted"
    assert result.after.probes["ASR"] > 0.9
    assert not any('"auto"' in note for note in result.notes)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_what_is_wrong_with_a_further_one_loses_no_result():
    base, final = behind(INITIAL, 0.0), behind(FINAL, 1e-4)
    weight = np.array(base.layers()["fc1"].weight)
    weight[0, 0] = 1e5  # damaged or forged
    result = purify(base.replace({"fc1": weight}), final)
    assert [layer.name for layer in result.layers] == ["gate0", "fc2"]
