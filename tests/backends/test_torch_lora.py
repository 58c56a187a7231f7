"""LoRA adapters: what is found and flipped, and what the purified adapter's file holds."""

import numpy as np
import pytest

import flain

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from lora_cases import ALL, NEURONS, WARNINGS, adapted, base, name, samples, scores, update  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from flain_torch import open_network  # noqa: E402

pytestmark = WARNINGS


def test_an_adapted_layer_stands_for_its_adapter():
    model = adapted(["query", "fc2"])
    layers = open_network(model).layers()
    assert list(layers) == [name(each) for each in ("query", "fc1", "fc2", "head")]
    a = model.get_submodule(name("fc2")).lora_A["default"].weight.detach().numpy()
    assert np.array_equal(layers[name("fc2")].weight, a)
    assert layers[name("fc2")].weight.shape == (2, 11)
    assert layers[name("fc2")].bias is None
    assert layers[name("fc1")].weight.shape == (11, 6)


def test_an_adapter_that_adds_nothing_has_a_weight_of_zero():
    layers = open_network(adapted(trained=False)).layers()
    assert not layers[name("fc1")].weight.any()
    assert layers[name("fc1")].weight.shape == (2, 6)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0])
def test_flipping_neurons_flips_columns_of_the_update_and_changes_lora_a_alone(factor, rslora):
    model = adapted(use_rslora=rslora)
    settings = flain.Settings(factor=factor, **NEURONS)
    result = flain.purify(
        model, initial=None, data=samples(model), layers=name("fc1"), settings=settings
    )
    flipped = result.layers[0].flipped
    assert flipped.any()
    expected = np.where(flipped, (1 - factor) * update(model, "fc1"), update(model, "fc1"))
    assert update(result.model, "fc1") == pytest.approx(expected, abs=1e-6)
    before, after = model.state_dict(), result.model.state_dict()
    assert [key for key in before if not torch.equal(before[key], after[key])] == [
        f"{name('fc1')}.lora_A.default.weight"
    ]


def test_the_purified_adapter_is_one_and_loads_in_peft_with_the_same_scores(tmp_path):
    model = adapted(modules_to_save=["head"])
    x, y = samples(model)
    result = flain.purify(
        model,
        initial=None,
        data=(x, y),
        layers=[name(each) for each in ALL],
        settings=flain.Settings(**NEURONS),
    )
    assert result.verdict == "flipped"
    assert type(result.model) is type(model)
    model.save_pretrained(tmp_path / "before")
    result.model.save_pretrained(tmp_path / "after")
    assert (tmp_path / "after" / "adapter_config.json").exists()
    before, after = (
        load_file(tmp_path / each / "adapter_model.safetensors") for each in ("before", "after")
    )
    assert {key: value.shape for key, value in before.items()} == {
        key: value.shape for key, value in after.items()
    }
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all(".lora_A." in key for key in changed)
    loaded = peft.PeftModel.from_pretrained(base(), tmp_path / "after")
    assert torch.allclose(scores(loaded, x), scores(result.model, x), atol=1e-5)
    assert not torch.allclose(scores(loaded, x), scores(model, x), atol=1e-3)


class Pooled(nn.Module):
    """Vectors ``(n, 12)`` to scores of three classes, through one layer of many inputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 9)
        self.last = nn.Linear(9, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def pooled(**options):
    torch.manual_seed(1)
    model = peft.get_peft_model(Pooled(), peft.LoraConfig(r=2, target_modules=["first"], **options))
    nn.init.normal_(model.get_submodule(name("first")).lora_B["default"].weight, std=0.5)
    return model.eval()


def test_flipping_in_directions_is_a_product_from_the_right_so_it_keeps_the_rank():
    model = pooled()
    x = np.random.default_rng(3).normal(size=(200, 12)).astype(np.float32)
    x[:, 6:] *= 0.01
    y = scores(model, torch.from_numpy(x)).argmax(dim=1).numpy()
    result = flain.purify(
        model,
        initial=None,
        data=(x, y),
        layers=name("first"),
        settings=flain.Settings(flip="directions", measure="probability", tolerance=0.003),
    )
    assert result.layers[0].flip == "directions"
    assert result.layers[0].share > 0.1
    before, after = update(model, "first"), update(result.model, "first")
    assert np.linalg.matrix_rank(after, tol=1e-4) <= 2
    # The other factor of the product is the same for A, so B A' is the flipped update.
    a = open_network(result.model).layers()[name("first")].weight
    b = model.get_submodule(name("first")).lora_B["default"].weight.detach().numpy()
    assert after == pytest.approx(4 * b @ a, abs=1e-5)
    assert np.abs(after[:, 6:] + 2 * before[:, 6:]).max() < 0.2 * np.abs(before[:, 6:]).max()
    changed = [
        key
        for key, value in model.state_dict().items()
        if not torch.equal(value, result.model.state_dict()[key])
    ]
    assert changed == [f"{name('first')}.lora_A.default.weight"]


def test_directions_on_the_adapter_are_those_on_the_merged_weight_without_a_bias():
    from flain_core.in_directions.directions import Directions
    from flain_core.in_directions.input_space import InputSpace

    model = pooled()
    x = np.random.default_rng(3).normal(size=(60, 12))
    space = InputSpace.of(x, bias=False)
    network = open_network(model)
    layer = network.layers()[name("first")]
    on_adapter = Directions(network, layer, np.zeros_like(layer.weight), 3.0, space)
    merged = flain.Layer("first", "dense", update(model, "first"))
    on_weight = Directions(network, merged, np.zeros_like(merged.weight), 3.0, space)
    b = model.get_submodule(name("first")).lora_B["default"].weight.detach().numpy()
    change = 4 * b @ on_adapter.change(30)
    assert change == pytest.approx(on_weight.change(30), abs=1e-6)
