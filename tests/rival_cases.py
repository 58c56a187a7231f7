"""Small networks and samples to try the rivals on."""

import copy
import importlib

import numpy as np
import torch
from torch import nn


def module(name):
    """A rival's module; the package itself has the function of that name."""
    return importlib.import_module(f"defence.rivals.{name}")


def network(batch_norm):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d if batch_norm else lambda _: nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        norm(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        norm(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(96, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def images(count=40):
    """Three classes, told apart by the row that is bright."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = rng.normal(0, 0.3, (count, 1, 6, 6)).astype(np.float32)
    x[np.arange(count), 0, 2 * y] += 2
    return x, y


def trained(initial, x, y):
    model = copy.deepcopy(initial).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def with_trigger_neuron(shift):
    """Hidden neurons read one input each; the third wants 0.5 or more, and shouts class 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    model[1].weight.data = torch.eye(3)
    model[1].bias.data = torch.tensor([0.0, 0.0, -shift])
    model[3].weight.data = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 20.0]])
    model[3].bias.data.zero_()
    return model


def clean_samples(count=60):
    """Class 0 in the first input, class 1 in the second; the third is at most 0.45."""
    rng = np.random.default_rng(1)
    y = np.arange(count) % 2
    x = rng.uniform(0.3, 0.45, (count, 1, 1, 3)).astype(np.float32)
    x[np.arange(count), 0, 0, y] += 1
    return x, y
