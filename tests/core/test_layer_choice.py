"""Which layers are purified, and what is said of those that cannot be."""

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_numpy import Dense, Network

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()
REASONS = {"fc1": "it is quantized", "fc2": "it shares its weight", "fc3": "it is never called"}


class Refusing:
    """A network of which some layers cannot be purified."""

    def __init__(self, network, refused, says=True):
        self.network, self.refused = network, refused
        if says:
            self.refused_layers = lambda: {name: REASONS[name] for name in refused}

    native = property(lambda self: self.network)

    def layers(self):
        found = self.network.layers()
        return {name: layer for name, layer in found.items() if name not in self.refused}

    def predict(self, x):
        return self.network.predict(x)

    def cut(self, layer, x):
        return self.network.cut(layer, x)

    def replace(self, weights, biases=None):
        for name in self.refused:
            if name in weights:
                raise flain.LayerError(f"layer {name!r} cannot be purified: {REASONS[name]}")
        return Refusing(self.network.replace(weights, biases), self.refused)


def purify(refused, layers, **options):
    final, initial = Refusing(FINAL, refused, **options), Refusing(INITIAL, refused)
    return flain.purify(final, initial=initial, data=CLEAN, layers=layers)


@pytest.mark.parametrize("layers", ["auto", "dense", "conv", "all", "fc1", ["fc2", "fc1"]])
def test_a_model_whose_layers_are_all_refused_gives_the_reasons(layers):
    with pytest.raises(flain.LayerError, match="no layer of the model can be purified") as raised:
        purify([*REASONS], layers)
    for name, reason in REASONS.items():
        assert f"{name!r}: {reason}" in str(raised.value)


def test_a_model_without_layers_says_so():
    with pytest.raises(flain.LayerError, match="has no fully connected or convolutional layer"):
        purify([*REASONS], "auto", says=False)


@pytest.mark.parametrize("group", ["dense", "all"])
def test_a_group_names_the_layers_that_it_leaves_out(group):
    result = purify(["fc2"], group)
    assert [outcome.name for outcome in result.layers] == ["fc1", "fc3"]
    note = "'fc2' was left out, as it cannot be purified: it shares its weight"
    assert result.notes.count(note) == 1


@pytest.mark.parametrize("layers", ["auto", "fc1", ["fc3"]])
@pytest.mark.filterwarnings("ignore:.auto. took:flain_core.FlainWarning")
@pytest.mark.filterwarnings("ignore:partly flipped:flain_core.FlainWarning")
def test_layers_by_name_leave_nothing_out(layers):
    assert not any("left out" in note for note in purify(["fc2"], layers).notes)


def test_auto_says_what_it_passed_by():
    with pytest.warns(flain.FlainWarning, match=r"took 'fc2'.*'fc1': it is quantized"):
        result = purify(["fc1"], "auto")
    assert [outcome.name for outcome in result.layers] == ["fc2"]


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_auto_says_which_of_many_dense_layers_it_took():
    def deep(seed):
        rng = np.random.default_rng(seed)
        widths = [(12, 12)] * 5 + [(3, 12)]
        layers = [Dense(f"fc{i}", rng.normal(0, 0.4, shape)) for i, shape in enumerate(widths)]
        return Network(layers)

    final = deep(1)
    x = CLEAN[0].astype(float)
    result = flain.purify(
        final, initial=deep(0), data=(x, final.predict(x).argmax(axis=1)), layers="auto"
    )
    (note,) = [note for note in result.notes if "the first of 6 dense layers" in note]
    assert "took 'fc0'" in note
    assert "such as 'fc5'" in note


def test_a_layer_that_training_did_not_change_names_those_that_it_did():
    changed = FINAL.layers()["fc3"].weight
    with pytest.raises(flain.WeightsError, match=r"it did change 'fc3'.*such as 'fc3'"):
        flain.purify(INITIAL.replace({"fc3": changed}), initial=INITIAL, data=CLEAN, layers="fc1")


@pytest.mark.parametrize("forged", [1e5, -1e5, 14.0])
@pytest.mark.parametrize("place", [(0, 0), (3, 10)])
def test_initial_weights_far_beyond_all_others_are_refused(forged, place):
    weight = np.array(INITIAL.layers()["fc1"].weight)
    weight[place] = forged
    with pytest.raises(flain.WeightsError, match="1 of the 120 initial weights of layer 'fc1'"):
        flain.purify(FINAL, initial=INITIAL.replace({"fc1": weight}), data=CLEAN)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_what_a_forged_weight_below_that_hides_is_little():
    asr = backdoored.triggered(300, seed=12)
    weight = np.array(INITIAL.layers()["fc1"].weight)
    weight[0, 0] = 9 * np.abs(FINAL.layers()["fc1"].weight).max()
    result = flain.purify(
        FINAL, initial=INITIAL.replace({"fc1": weight}), data=CLEAN, probes={"ASR": asr}
    )
    assert result.before.probes["ASR"] > 0.9
    assert result.after.probes["ASR"] < 0.05


def test_a_refused_layer_that_is_asked_for_by_name_gives_its_reason():
    with pytest.raises(flain.LayerError, match="'fc2' cannot be purified: it shares its weight"):
        purify(["fc2"], ["fc1", "fc2"])


def test_a_kind_without_layers_lists_the_others():
    with pytest.raises(flain.LayerError, match=r"no conv layer that can be purified.*'fc1'"):
        purify([], "conv")


def test_a_kind_whose_layers_are_refused_gives_the_reasons():
    class Other(Refusing):
        def refused_layers(self):
            return {"conv1": "it is quantized"}

    with pytest.raises(flain.LayerError, match=r"no conv layer.*'conv1': it is quantized"):
        flain.purify(Other(FINAL, [], says=False), initial=INITIAL, data=CLEAN, layers="conv")


def raising():
    raise RuntimeError("not now")


@pytest.mark.parametrize("faulty", [raising, lambda: None, lambda: ["fc1"], "text", lambda one: {}])
@pytest.mark.parametrize("group", ["all", "dense"])
def test_reasons_that_cannot_be_had_are_one_clear_error_before_any_work(faulty, group):
    network = Refusing(FINAL, [], says=False)
    network.refused_layers = faulty
    network.predict = network.cut = None
    with pytest.raises(flain.ModelError, match=r"refused_layers\(\) of Refusing"):
        flain.purify(network, initial=INITIAL, data=CLEAN, layers=group)


def test_a_layer_that_can_be_purified_is_not_refused():
    network = Refusing(FINAL, [], says=False)
    network.refused_layers = lambda: REASONS
    result = flain.purify(network, initial=INITIAL, data=CLEAN, layers="all")
    assert not any("left out" in note for note in result.notes)


@pytest.mark.parametrize("layers", [3, None])
def test_what_is_no_name_is_refused(layers):
    with pytest.raises(flain.LayerError, match="expected layers to be"):
        purify([], layers)


def test_a_network_that_takes_any_layer_is_told_of_one_that_is_not_there():
    class Taking(Refusing):
        def replace(self, weights, biases=None):
            return self

    with pytest.raises(flain.LayerError, match=r"there is no layer 'fc9'. Did you mean"):
        flain.purify(Taking(FINAL, []), initial=INITIAL, data=CLEAN, layers="fc9")
