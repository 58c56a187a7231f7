"""PyTorch modules with the layers and a batch of each, and what tests compare of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_models as models
from torch import Tensor, nn
from torch.nn.utils import parametrizations

N = 7


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layers: tuple[str, ...]
    integers: bool = False
    replayed: bool = True
    tolerance: float = 1e-5

    def batch(self, n: int = N) -> np.ndarray:
        random = np.random.default_rng(n)
        if self.integers:
            return random.integers(0, 20, (n, *self.shape))
        return random.standard_normal((n, *self.shape)).astype(np.float32)

    def model(self) -> nn.Module:
        torch.manual_seed(3)
        model = self.build()
        with torch.no_grad():
            model(torch.as_tensor(self.batch(2), dtype=torch.int64 if self.integers else None))
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)
        return model


CASES = {
    "cnn": Case(models.cnn, (3, 8, 8), ("0", "3", "5", "8")),
    "resnet": Case(models.resnet, (3, 8, 8), ("0", "3.conv1", "3.conv2", "4.conv1", "7")),
    "transformer": Case(
        models.Transformer,
        (4,),
        ("encoder.layers.0.linear1", "encoder.layers.1.linear2", "head"),
        integers=True,
    ),
    "sequence first": Case(
        lambda: models.Transformer(batch_first=False),
        (4,),
        ("encoder.layers.0.linear2", "head"),
        integers=True,
    ),
    "recurrent": Case(models.Recurrent, (3, 4), ("project", "head")),
    "unet": Case(models.UNet, (3, 8, 8), ("down", "middle", "up", "head")),
    "grouped": Case(models.grouped, (6, 8, 8), ("0", "2", "4")),
    "upsampling": Case(models.upsampling, (3, 9), ("0", "1", "4")),
    "volumes": Case(models.volumes, (2, 4, 3, 5), ("0", "2", "4")),
    "decides": Case(models.Decides, (6,), ("first",), replayed=False),
    "escapes": Case(models.Escapes, (6,), ("first",), replayed=False),
    "selects": Case(models.Selects, (6,), ("first",), replayed=False),
    "overwrites": Case(models.Overwrites, (3, 9), ("conv",), replayed=False),
    "buffers": Case(models.Buffers, (6,), ("first", "side", "head")),
    "weight norm": Case(
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)), nn.Linear(4, 5)),
        (6,),
        ("0", "1"),
    ),
    "compiled": Case(lambda: torch.compile(models.mlp(), backend="eager"), (6,), ("0", "2")),
    "compiled part": Case(
        lambda: nn.Sequential(torch.compile(models.mlp(), backend="eager"), nn.Linear(5, 4)),
        (6,),
        ("0.0", "0.2", "1"),
    ),
    "data parallel": Case(lambda: nn.DataParallel(models.mlp()), (6,), ("0", "2")),
}


def bias_of(layer: nn.Module, output: Tensor) -> Tensor:
    if layer.bias is None:
        return torch.zeros(())
    if isinstance(layer, nn.Linear):
        return layer.bias.detach()
    return layer.bias.detach().view(-1, *[1] * (output.dim() - 2))


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


def parts(model: nn.Module) -> list[tuple[str, bool]]:
    return [(name, module.training) for name, module in model.named_modules()]


def fingerprint(model: nn.Module) -> dict[str, bytes]:
    return {name: pickle.dumps(t.float().numpy()) for name, t in model.state_dict().items()}


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(6, 4), nn.Linear(4, 5))
    model[1].weight = model[0].weight
    return model
