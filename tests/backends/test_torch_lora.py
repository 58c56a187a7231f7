"""LoRA adapters: what is found, refused, flipped, and what the purified adapter's file holds."""

import copy

import numpy as np
import pytest

import flain

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from flain_torch import adapter_off, open_network  # noqa: E402

pytestmark = [
    # Nobody has trained these models, so they are unsure of what they say.
    pytest.mark.filterwarnings("ignore:the model is right about:flain_core.FlainWarning"),
    # PEFT takes the bias of lora_B for an incomplete tensor, and asks a module of Transformers.
    pytest.mark.filterwarnings("ignore:Adapter 'default'"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]
ALL = ("fc1", "fc2")
QUIET = 0.02
# The scores of models with random weights say little of probabilities.
NEURONS = {"flip": "neurons", "statistic": "rms", "measure": "score", "tolerance": 0.05}


class Tiny(nn.Module):
    """Tokens ``(n, 5, 6)`` to scores of three classes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.query = nn.Linear(6, 6)
        self.fc1 = nn.Linear(6, 11)
        self.fc2 = nn.Linear(11, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = x + self.query(self.norm(x))
        x = x + self.fc2(nn.functional.gelu(self.fc1(x)))
        return self.head(x[:, 0])


def base():
    """The second half of the inputs of ``fc1`` is quiet."""
    torch.manual_seed(4)
    model = Tiny()
    with torch.no_grad():
        model.query.weight[3:] *= QUIET
        model.query.bias[3:] *= QUIET
    return model


def adapted(targets=ALL, *, trained=True, **options):
    """A base model with an adapter, whose B is random if it is to be a trained one."""
    model = peft.get_peft_model(
        base(), peft.LoraConfig(r=2, lora_alpha=3, target_modules=list(targets), **options)
    )
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if trained and "lora_" in name:
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


def samples(model, n=200):
    """Samples that the model gets right, if it gives few of them each class."""
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(n, 5, 6)).astype(np.float32))
    x[..., 3:] *= QUIET
    with torch.no_grad():
        return x, model(x).argmax(dim=1)


def scores(model, x):
    with torch.no_grad():
        return model.eval()(x)


def name(layer):
    return f"base_model.model.{layer}"


def update(model, layer):
    """What the adapter adds to the weight ``(out, in)``."""
    return model.get_submodule(name(layer)).get_delta_weight("default").detach().numpy()


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
        settings=flain.Settings(flip="directions", measure="probability", tolerance=0.005),
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
    from flain_core.directions import Directions
    from flain_core.input_space import InputSpace

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


# --- What the initial model may be -----------------------------------------------------


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


# --- What is refused -------------------------------------------------------------------


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
    assert "DoRA" in refused(adapted(use_dora=True))[name("fc1")]


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


# --- Other layers ----------------------------------------------------------------------


def test_a_convolution_is_flipped_channel_by_channel():
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(4, 7, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 25, 3)
    )
    model = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["0"]))
    layer = model.get_submodule(name("0"))
    nn.init.normal_(layer.lora_B["default"].weight, std=0.5)
    x = np.abs(np.random.default_rng(0).normal(size=(120, 4, 5, 5))).astype(np.float32)
    x[:, 1] *= 1e-3
    y = scores(model, torch.from_numpy(x)).argmax(dim=1).numpy()
    result = flain.purify(
        model,
        initial=None,
        data=(x, y),
        layers=name("0"),
        settings=flain.Settings(tolerance=0.001, measure="score"),
    )
    assert result.layers[0].flipped.tolist() == [False, True, False, False]
    assert update(result.model, "0")[:, 1] == pytest.approx(-update(model, "0")[:, 1], abs=1e-6)
    assert np.array_equal(update(result.model, "0")[:, 0], update(model, "0")[:, 0])


def test_half_precision_adapters_are_taken():
    model = adapted().to(torch.bfloat16)
    x, y = samples(adapted())
    result = flain.purify(
        model,
        initial=None,
        data=(x, y),
        layers=name("fc1"),
        settings=flain.Settings(**NEURONS),
    )
    layer = result.model.get_submodule(name("fc1"))
    assert layer.lora_A["default"].weight.dtype == torch.bfloat16


class Conv1D(nn.Module):
    """A dense layer as GPT-2 of the Transformers library has it: ``weight`` is ``(in, out)``."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf).normal_(std=0.4))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        rows = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return rows.view(*x.shape[:-1], self.nf)


def transposed(width=12):
    torch.manual_seed(9)
    return nn.Sequential(Conv1D(9, width), nn.ReLU(), nn.Linear(9, 3)).eval()


@pytest.mark.parametrize(("flip", "statistic"), [("neurons", "rms"), ("directions", "mean")])
def test_a_transposed_dense_layer_is_purified_like_a_linear_one(flip, statistic):
    final, initial = transposed(), transposed()
    with torch.no_grad():
        initial[0].weight += 0.1 * torch.randn(12, 9)
    x = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    x[:, 6:] = np.abs(x[:, 6:]) * 0.01
    y = scores(final, torch.from_numpy(x)).argmax(dim=1).numpy()
    settings = flain.Settings(flip=flip, statistic=statistic, measure="score", tolerance=0.02)
    models = []
    for pair in ((final, initial), (as_linear(final), as_linear(initial))):
        result = flain.purify(pair[0], initial=pair[1], data=(x, y), settings=settings)
        assert result.layers[0].flip == flip
        assert result.layers[0].share > 0
        models.append(result.model)
    assert models[0][0].weight.detach().numpy() == pytest.approx(
        models[1][0].weight.detach().numpy().T, abs=1e-6
    )
    assert scores(models[0], torch.from_numpy(x)) == pytest.approx(
        scores(models[1], torch.from_numpy(x)), abs=1e-5
    )


def as_linear(model):
    linear = nn.Linear(12, 9)
    with torch.no_grad():
        linear.weight.copy_(model[0].weight.T)
        linear.bias.copy_(model[0].bias)
    return nn.Sequential(linear, *copy.deepcopy(model[1:])).eval()


def test_the_conv1d_of_transformers_is_found_with_and_without_an_adapter():
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=6, n_layer=1, n_head=2, num_labels=3, pad_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2ForSequenceClassification(config).eval()
    layers = open_network(model).layers()
    assert layers["transformer.h.0.mlp.c_fc"].weight.shape == (24, 6)
    assert layers["transformer.h.0.attn.c_attn"].weight.shape == (18, 6)
    model = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["c_fc"], fan_in_fan_out=True)
    )
    layer = model.get_submodule(name("transformer.h.0.mlp.c_fc"))
    nn.init.normal_(layer.lora_B["default"].weight)
    tokens = np.random.default_rng(0).integers(1, 20, size=(120, 8))
    network = open_network(model)
    adapted_layer = network.layers()[name("transformer.h.0.mlp.c_fc")]
    assert adapted_layer.weight.shape == (2, 6)
    cut = network.cut(adapted_layer.name, {"input_ids": tokens})
    assert cut.tail(cut.output) == pytest.approx(network.predict({"input_ids": tokens}), abs=1e-5)


# --- Adapters as plain arrays ----------------------------------------------------------


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
