"""LoRA adapters that are refused, and why."""

import pytest

pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from lora_cases import WARNINGS, adapted, name  # noqa: E402
from torch import nn  # noqa: E402

from flain_core.errors import ModelError  # noqa: E402
from flain_torch import adapter_off, open_network  # noqa: E402

pytestmark = WARNINGS


def refused(model):
    return open_network(model).refused_layers()


def test_a_merged_adapter_is_refused():
    model = adapted()
    model.merge_adapter()
    assert "merged into the weight" in refused(model)[name("fc1")]


def test_a_disabled_adapter_is_refused():
    model = adapted()
    model.base_model.disable_adapter_layers()
    assert "disabled" in refused(model)[name("fc1")]


def test_several_active_adapters_are_refused_and_one_of_several_is_taken():
    model = adapted()
    model.add_adapter("other", peft.LoraConfig(r=3, target_modules=["fc1"]))
    assert open_network(model).layers()[name("fc1")].weight.shape == (2, 6)
    model.set_adapter("other")
    assert open_network(model).layers()[name("fc1")].weight.shape == (3, 6)
    assert "no adapter of it is active" in refused(model)[name("fc2")]
    model.base_model.set_adapter(["default", "other"])
    assert "several adapters are active (default, other)" in refused(model)[name("fc1")]
    assert name("fc2") in open_network(model).layers()


def test_dora_is_refused():
    model = adapted(use_dora=True)
    assert "DoRA" in refused(model)[name("fc1")]
    with pytest.raises(ModelError, match=r"no LoRA adapter .* can be purified: .*DoRA"):
        adapter_off(model)


def test_a_variant_of_another_kind_is_refused():
    model = adapted()
    layer = model.get_submodule(name("fc1"))
    layer.lora_variant["default"] = object()
    assert "variant object" in refused(model)[name("fc1")]


def test_embeddings_are_refused():
    model = nn.Sequential(nn.Embedding(7, 6), nn.Flatten(), nn.Linear(12, 3))
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0", "2"]))
    assert "looks rows up" in refused(model)[name("0")]
    assert name("2") in open_network(model).layers()


def test_what_peft_keeps_of_a_module_is_refused():
    model = adapted(modules_to_save=["head"])
    assert "keeps" in refused(model)[f"{name('head')}.original_module"]
    assert f"{name('head')}.modules_to_save.default" in open_network(model).layers()
