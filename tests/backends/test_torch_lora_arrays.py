"""LoRA adapters as plain arrays, and in records of Flower."""

import numpy as np
import pytest

import flain

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from lora_cases import NEURONS, WARNINGS, adapted, name, samples, scores  # noqa: E402

pytestmark = WARNINGS


def as_file(model):
    """The arrays of the adapter by the names of PEFT's file, as FlowerTune sends them."""
    return {key: value.numpy() for key, value in peft.get_peft_model_state_dict(model).items()}


def as_state(model):
    state = model.state_dict()
    return {key: state[key].numpy() for key in state if "lora_" in key or "modules_to" in key}


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["head"]}, {"lora_bias": True}])
@pytest.mark.parametrize("form", [as_file, as_state, lambda model: list(as_file(model).values())])
def test_arrays_of_an_adapter_alone_are_purified_beside_the_models_own(form, options):
    model = adapted(**options)
    given = {"data": samples(model), "layers": name("fc1"), "settings": flain.Settings(**NEURONS)}
    # The rest is the architecture's, whose adapter does not matter.
    architecture = adapted(trained=False, **options)
    start, end = form(adapted(trained=False, **options)), form(model)
    result = flain.purify_arrays(start, end, architecture, **given)
    expected = form(flain.purify(model, initial=None, **given, again=True).model)
    assert type(result.arrays) is type(end)
    keys = list(end) if isinstance(end, dict) else range(len(end))
    assert len(result.arrays) == len(end)
    changed = [key for key in keys if not np.array_equal(result.arrays[key], end[key])]
    assert len(changed) == 1
    assert all(np.array_equal(result.arrays[key], expected[key]) for key in keys)
    none = flain.purify_arrays(None, end, architecture, **given, again=True)
    assert all(np.array_equal(none.arrays[key], expected[key]) for key in keys)


def test_adapter_arrays_that_do_not_fit_are_named():
    model = adapted()
    end = as_file(model)
    misnamed = {key.replace("fc2", "fc9"): value for key, value in end.items()}
    with pytest.raises(flain.WeightsError, match="fc9"):
        flain.purify_arrays(as_file(model), misnamed, model, data=samples(model))


def test_flowers_records_may_hold_an_adapter_alone():
    app = pytest.importorskip("flwr.app", reason="Flower is not installed")
    flain_flower = pytest.importorskip("flain_flower")
    model, start = adapted(), adapted(trained=False)
    given = {"data": samples(model), "layers": name("fc1"), "settings": flain.Settings(**NEURONS)}
    records = [
        app.ArrayRecord({key: app.Array(value) for key, value in as_file(each).items()})
        for each in (start, model)
    ]
    purified = flain_flower.purify(*records, model=start, **given)
    loaded = adapted(trained=False)
    peft.set_peft_model_state_dict(
        loaded, {key: torch.from_numpy(value.numpy()) for key, value in purified.arrays.items()}
    )
    x, _ = given["data"]
    expected = scores(purified.purification.model, x)
    assert torch.allclose(scores(loaded, x), expected, atol=1e-5)
    assert not torch.allclose(scores(model, x), expected, atol=1e-3)
