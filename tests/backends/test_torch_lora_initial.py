"""What the initial model of a LoRA adapter may be."""

import copy

import numpy as np
import pytest

import flain

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from lora_cases import NEURONS, WARNINGS, adapted, base, name, samples, scores, update  # noqa: E402
from torch import nn  # noqa: E402

from flain_torch import adapter_off  # noqa: E402

pytestmark = WARNINGS


def test_none_stands_for_the_adapter_off_and_peft_agrees():
    model = adapted(modules_to_save=["head"])
    head = model.get_submodule(name("head")).modules_to_save["default"]
    nn.init.normal_(head.weight)
    x, _ = samples(model)
    with model.disable_adapter():
        expected = scores(model, x)
    off = adapter_off(model)
    assert torch.allclose(torch.from_numpy(off.predict(x)), expected, atol=1e-6)
    assert not torch.allclose(scores(model, x), expected, atol=1e-3)


def test_a_new_adapter_as_initial_is_the_same_as_none():
    model = adapted()
    results = [
        flain.purify(
            model,
            initial=initial,
            data=samples(model),
            layers=name("fc1"),
            settings=flain.Settings(**NEURONS),
        )
        for initial in (None, adapted(trained=False), adapted(trained=False).state_dict())
    ]
    weights = [update(each.model, "fc1") for each in results]
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[0], weights[2])


def test_a_continued_adapter_is_refused_unless_its_second_half_stayed():
    model = adapted()
    started = copy.deepcopy(model)
    layer = started.get_submodule(name("fc1"))
    nn.init.normal_(layer.lora_A["default"].weight)
    data = samples(model)
    settings = flain.Settings(**NEURONS)
    result = flain.purify(model, initial=started, data=data, layers=name("fc1"), settings=settings)
    flipped = result.layers[0].flipped
    difference = update(model, "fc1") - update(started, "fc1")
    expected = update(model, "fc1") - 2 * np.where(flipped, difference, 0)
    assert update(result.model, "fc1") == pytest.approx(expected, abs=1e-5)
    nn.init.normal_(layer.lora_B["default"].weight)
    with pytest.raises(flain.WeightsError, match="neither off"):
        flain.purify(model, initial=started, data=data, layers=name("fc1"))


def test_a_base_that_was_trained_too_is_refused():
    model, started = adapted(), adapted(trained=False)
    with torch.no_grad():
        started.get_submodule(name("fc1")).base_layer.weight.add_(1)
    with pytest.raises(flain.WeightsError, match="not all that training changed"):
        flain.purify(model, initial=started, data=samples(model), layers=name("fc1"))


def test_an_adapter_that_did_not_start_at_zero_needs_its_initial_model():
    model = adapted(init_lora_weights="pissa")
    with pytest.raises(flain.ModelError, match="did not start at zero"):
        flain.purify(model, initial=None, data=samples(model), layers=name("fc1"))


def test_none_without_an_adapter_says_what_it_stands_for():
    model = base().eval()
    with pytest.raises(flain.ModelError, match="LoRA adapter off"):
        flain.purify(model, initial=None, data=samples(model))


def test_an_adapter_that_was_never_trained_has_no_update():
    model = adapted(trained=False)
    with pytest.raises(flain.WeightsError, match="equal weights"):
        flain.purify(model, initial=None, data=samples(model), layers=name("fc1"))


def test_the_callers_model_stays_as_it_is():
    model = adapted()
    before = copy.deepcopy(model.state_dict())
    flain.purify(
        model,
        initial=None,
        data=samples(model),
        layers=name("fc1"),
        settings=flain.Settings(**NEURONS),
    )
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def test_purifying_twice_is_refused_after_the_file_too(tmp_path):
    model = adapted()
    data = samples(model)
    settings = flain.Settings(**NEURONS)
    given = {"initial": None, "data": data, "layers": name("fc1"), "settings": settings}
    result = flain.purify(model, **given)
    result.model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(base(), tmp_path)
    with pytest.raises(flain.ModelError, match="purified before"):
        flain.purify(loaded, **given)
