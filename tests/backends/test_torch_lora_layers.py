"""LoRA adapters of other layers than linear ones, and Conv1D."""

import copy

import numpy as np
import pytest

import flain

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft", reason="PEFT is not installed")

from lora_cases import NEURONS, WARNINGS, adapted, name, samples, scores, update  # noqa: E402
from torch import nn  # noqa: E402

from flain_torch import open_network  # noqa: E402

pytestmark = WARNINGS


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
