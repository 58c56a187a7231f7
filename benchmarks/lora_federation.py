"""A vision transformer trained on few MNIST images, and a federation that fine-tunes it with LoRA.

Ten clients of 400 images each, none of which the model has seen, train an adapter of rank 8 on
every dense layer of its blocks; FedAvg averages the adapters, all clients take part in every round.
Three clients are malicious: they stamp half of their images with a white square of 5 x 5 pixels,
label them 5, and train twice as long.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mnist_samples import Samples, inputs, read_mnist
from torch import Tensor, nn
from torch.nn import functional

TARGET = 5
CLIENTS, MALICIOUS, IMAGES_PER_CLIENT = 10, 3, 400
ROUNDS, EPOCHS, EPOCHS_OF_MALICIOUS = 20, 2, 4
RANK, ALPHA = 8, 16
ADAPTED = ("query", "key", "value", "out", "fc1", "fc2")
CENTRAL_IMAGES, CENTRAL_EPOCHS = 2_000, 20
AUXILIARY_IMAGES = 800
WIDTH, DEPTH, HEADS, PATCH, SIDE, CLASSES = 64, 2, 4, 7, 28, 10

State: TypeAlias = dict[str, Tensor]
Report: TypeAlias = Callable[[str], None]


class Block(nn.Module):
    """One block of a transformer: attention and an MLP, each behind a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, tokens, width)`` to the same shape."""
        y = self.before_attention(x)
        heads = (
            layer(y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        mixed: Tensor = x + self.fc2(functional.gelu(self.fc1(self.before_mlp(x))))
        return mixed


class VisionTransformer(nn.Module):
    """Images float32 ``(n, 1, 28, 28)`` to scores of ten classes, from 16 patches of 7 x 7."""

    def __init__(self) -> None:
        super().__init__()
        tokens = (SIDE // PATCH) ** 2 + 1
        self.embed = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(n, 10)``, from the token that stands for the whole image."""
        patches = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), patches], dim=1) + self.places
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(self.norm(x)[:, 0])
        return scores


@dataclass(frozen=True, eq=False)
class Labelled:
    """Network inputs ``(n, 1, 28, 28)`` and their classes ``(n,)``."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, at: Tensor | slice) -> Labelled:
        """Some of them."""
        return Labelled(self.x[at], self.y[at])


@dataclass(frozen=True, eq=False)
class Division:
    """Images that never meet: of the central training, the clients, the defender, and for tests."""

    central: Labelled
    clients: tuple[Labelled, ...]
    auxiliary: Labelled
    test: Labelled
    triggered: Labelled

    @classmethod
    def of(cls, folder: Path, seed: int) -> Division:
        """Divide MNIST; ``triggered`` are the test images of all other classes, stamped."""
        train, test = map(_labelled, read_mnist(folder / "MNIST" / "raw"))
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(train)))
        of_clients = CLIENTS * IMAGES_PER_CLIENT
        ends = [CENTRAL_IMAGES, CENTRAL_IMAGES + of_clients]
        ends.append(ends[-1] + AUXILIARY_IMAGES)
        central, clients, auxiliary, _ = torch.tensor_split(order, ends)
        others = test.take(test.y != TARGET)
        return cls(
            central=train.take(central),
            clients=tuple(map(train.take, torch.tensor_split(clients, CLIENTS))),
            auxiliary=train.take(auxiliary),
            test=test,
            triggered=Labelled(stamped(others.x), torch.full_like(others.y, TARGET)),
        )


def _labelled(samples: Samples) -> Labelled:
    return Labelled(inputs(samples.images), samples.labels)


def stamped(x: Tensor) -> Tensor:
    """A copy of images with the trigger."""
    x = x.clone()
    x[..., 23:28, 23:28] = 1
    return x


def share(model: nn.Module, samples: Labelled) -> float:
    """The share of samples that get the label they carry, in percent."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(x).argmax(dim=1) for x in torch.split(samples.x, 1000)])
    return 100 * float((found == samples.y).float().mean())


def centrally_trained(samples: Labelled, seed: int) -> VisionTransformer:
    """The model that the federation starts from."""
    torch.manual_seed(seed)
    model = VisionTransformer()
    batch = 128
    steps = CENTRAL_EPOCHS * -(-len(samples) // batch)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(CENTRAL_EPOCHS):
        _epoch(model, optimizer, samples, batch, schedule.step)
    return model.eval()


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    samples: Labelled,
    batch: int,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    model.train()
    for at in torch.split(torch.randperm(len(samples)), batch):
        optimizer.zero_grad()
        loss: Any = functional.cross_entropy(model(samples.x[at]), samples.y[at])
        loss.backward()
        optimizer.step()
        after_step()


def with_adapter(model: nn.Module) -> nn.Module:
    """The model in PEFT, with a new adapter."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(ADAPTED))
    adapted: nn.Module = get_peft_model(copy.deepcopy(model), config)
    return adapted


def poisoned(samples: Labelled) -> Labelled:
    """What a malicious client trains on."""
    half = len(samples) // 2
    x, y = samples.x.clone(), samples.y.clone()
    x[:half], y[:half] = stamped(x[:half]), TARGET
    return Labelled(x, y)


def federated(base: nn.Module, division: Division, seed: int, report: Report) -> nn.Module:
    """The base with the adapter that the federation trains."""
    torch.manual_seed(1000 + seed)
    model = with_adapter(base)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    now = _copied(trained)
    held = [
        poisoned(samples) if number < MALICIOUS else samples
        for number, samples in enumerate(division.clients)
    ]
    for number in range(1, ROUNDS + 1):
        answers = []
        for client, samples in enumerate(held):
            _put(trained, now)
            optimizer = torch.optim.Adam(trained.values(), lr=8e-3)
            for _ in range(EPOCHS_OF_MALICIOUS if client < MALICIOUS else EPOCHS):
                _epoch(model, optimizer, samples, batch=64)
            answers.append(_copied(trained))
        now = {name: torch.stack([each[name] for each in answers]).mean(dim=0) for name in now}
        report(f"round {number} of {ROUNDS}")
    _put(trained, now)
    return model.eval()


def _copied(parameters: dict[str, nn.Parameter]) -> State:
    return {name: each.detach().clone() for name, each in parameters.items()}


def _put(parameters: dict[str, nn.Parameter], state: State) -> None:
    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(state[name])


def adapted_layers(block: int, parts: Iterable[str] = ADAPTED) -> list[str]:
    """The names of adapted layers of a block in PEFT."""
    return [f"base_model.model.blocks.{block}.{part}" for part in parts]
