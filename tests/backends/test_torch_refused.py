"""PyTorch modules, layers and weights that cannot be purified are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
import torch_models as models
from by_neurons import by_neurons
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch_cases import N, tied
from torch_threads import one_thread  # noqa: F401

import flain_core as flain
from flain_core.errors import LayerError, ModelError, WeightsError
from flain_torch import open_network


def registered_twice() -> nn.Module:
    model = models.mlp()
    model.add_module("alias", model[0])
    return model


def same_memory() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(6, 4))
    model[1].weight.data = model[0].weight.data
    return model


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 4)))


def pruned() -> nn.Module:
    model = models.mlp()
    prune.l1_unstructured(model[0], "weight", 3)
    return model


def attention() -> nn.Module:
    return nn.Sequential(nn.MultiheadAttention(4, 2))


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (tied, "0", "shares '0.weight' with '1.weight'"),
        (tied, "1", "shares"),
        (registered_twice, "0", "shares"),
        (registered_twice, "alias", "shares"),
        (same_memory, "1", "shares"),
        (old_weight_norm, "0", "remove_weight_norm"),
        (pruned, "0", "prune.remove"),
        (
            lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4))),
            "0",
            "remove_parametrizations",
        ),
        (
            lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 4))),
            "0",
            "remove_parametrizations",
        ),
        (attention, "0.out_proj", "without ever calling it"),
        (models.mlp, "1", "no dense or convolutional layer"),
        (models.cnn, "9", "the model has '0', '3', '5', '8'."),
        (models.Transformer, "encoder.layers.0.linear", "Did you mean 'encoder.layers.0.linear2'"),
    ],
)
def test_layers_that_cannot_be_purified_say_why(
    build: Callable[[], nn.Module], name: str, message: str
) -> None:
    network = open_network(build())
    assert name not in network.layers()
    with pytest.raises(LayerError, match=message):
        network.cut(name, np.ones((N, 6), dtype=np.float32))
    with pytest.raises(LayerError, match=message):
        network.replace({name: np.ones((4, 6))})


def purified(build: Callable[[], nn.Module], x: np.ndarray, layers: str) -> flain.Purification:
    torch.manual_seed(0)
    initial, final = build(), build()
    y = open_network(final).predict(x).argmax(axis=1)
    settings = by_neurons(statistic="mean_abs", tolerance=0.2)
    return flain.purify(final, initial=initial, data=(x, y), layers=layers, settings=settings)


def test_a_model_whose_layers_are_all_refused_gives_the_reasons() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6), pruned()[0])
        model[1].weight = model[0].weight
        return model

    refused = open_network(build()).refused_layers()
    assert list(refused) == ["0", "1", "2"]
    assert refused["0"].startswith("it shares '0.weight' with '1.weight'")
    assert refused["1"].startswith("it shares '1.weight' with '0.weight'")
    assert "torch.nn.utils.prune.remove(layer, 'weight')" in refused["2"]
    reasons = "; ".join(f"{name!r}: {reason}" for name, reason in refused.items())
    x = np.random.default_rng(0).random((40, 6), dtype=np.float32)
    for layers in ("all", "auto", "0"):
        with pytest.raises(LayerError) as caught:
            purified(build, x, layers)
        assert str(caught.value) == f"no layer of the model can be purified: {reasons}"


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_the_notes_name_what_a_whole_group_leaves_out() -> None:
    def build() -> nn.Module:
        return nn.Sequential(*old_weight_norm(), nn.ReLU(), nn.Linear(4, 5))

    assert list(open_network(build()).refused_layers()) == ["0"]
    assert open_network(models.mlp()).refused_layers() == {}
    x = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32)
    result = purified(build, x, "all")
    assert [layer.name for layer in result.layers] == ["2"]
    expected = "'0' was left out, as it cannot be purified: old-style weight_norm computes its"
    assert sum(str(note).startswith(expected) for note in result.notes) == 1
    assert not any("left out" in str(note) for note in purified(build, x, "2").notes)


def test_a_layer_inside_a_function_transform_is_reported() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(self.fc)(x)

    network = open_network(Mapped())
    x = np.ones((N, 6), dtype=np.float32)
    assert network.predict(x).shape == (N, 4)
    with pytest.raises(LayerError, match=r"torch\.vmap"):
        network.cut("fc", x)


def test_a_layer_that_never_runs_or_sees_no_samples_is_reported() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(3, 2)
            self.constant = nn.Linear(3, 2)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.constant(torch.ones(1, 3))

    network = open_network(Odd())
    x = np.ones((N, 4), dtype=np.float32)
    with pytest.raises(LayerError, match="'idle' was not called"):
        network.cut("idle", x)
    with pytest.raises(LayerError, match="every one of the 7 samples"):
        network.cut("constant", x)


def quantized() -> nn.Module:
    fake = type("Linear", (nn.Module,), {"__module__": "torch.ao.nn.quantized.dynamic.modules"})
    return nn.Sequential(fake())


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.jit.trace(models.mlp(), torch.ones(2, 6)), "TorchScript"),
        (lambda: torch.export.export(models.mlp(), (torch.ones(2, 6),)), "an Exp.*was exported"),
        (lambda: nn.LazyLinear(3), "run the model on one batch first"),
        (lambda: nn.Linear(3, 2, device="meta"), "meta device"),
        (quantized, "quantize it"),
        (Uncopyable, "cannot copy the Uncopyable"),
        (lambda: models.mlp().state_dict(), "`like`"),
        (lambda: 3, "an int"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_models_that_cannot_be_opened_say_why(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_network(build())


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((6, 9)), r"shape \(9, 6\); got float64 of shape \(6, 9\)"),
        (np.full((9, 6), np.nan), "that are finite in .*; got NaN"),
        (np.full((9, 6), 1e6), "finite in torch.float16; .* out of its range"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weight: np.ndarray, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        open_network(models.mlp(torch.float16)).replace({"0": weight})


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool])
def test_whole_numbers_are_no_weights(kind: torch.dtype) -> None:
    model = models.mlp()
    quantised = {name: (100 * each).to(kind) for name, each in model.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"floating-point.*'0.weight'.*got {kind}.*quantised"):
        open_network(quantised, like=model)


def test_tensors_without_numbers_are_refused() -> None:
    x = torch.ones(4, 6, device="meta")
    with pytest.raises(flain.DataError, match="meta device"):
        flain.purify(models.mlp(), initial=models.mlp(), data=(x, np.zeros(4, int)))


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_recurrent_layers_are_refused_and_said_to_have_been_passed_by() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.steps = nn.Embedding(9, 6), nn.LSTM(6, 6, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.steps(self.words(x))[0][:, -1])

    refused = open_network(Reader()).refused_layers()
    assert list(refused) == ["steps"]
    assert "recurrent" in refused["steps"]
    assert list(open_network(nn.GRUCell(6, 6)).refused_layers()) == ["GRUCell"]
    torch.manual_seed(0)
    initial, final = Reader(), Reader()
    x = np.random.default_rng(0).integers(9, size=(100, 4))
    y = open_network(final).predict(x).argmax(axis=1)
    result = flain.purify(final, initial=initial, data=(x, y))
    assert [layer.name for layer in result.layers] == ["head"]
    assert any(
        "others cannot" in note and "'steps': a recurrent" in note for note in result.warnings
    )
