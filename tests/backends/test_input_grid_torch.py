"""Inputs behind PyTorch's convolutions have the places that PyTorch's flattening gives them."""

import numpy as np
import pytest
import torch
from torch import nn

from flain_core.opening.registry import open_network
from flain_core.reporting.input_grid import InputGrid, find_grid


class Skips(nn.Module):
    """A block whose last convolution lies on a branch of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.skip = nn.Conv2d(1, 6, 1)
        self.fc = nn.Linear(90, 3)

    def forward(self, x):
        y = self.second(torch.relu(self.first(x))) + self.skip(x)
        return self.fc(nn.functional.max_pool2d(torch.relu(y), 2).flatten(1))


MODELS = {
    "a branch": (Skips, "fc", (1, 11, 7), InputGrid(6, 5, 3)),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)),
        "3",
        (2, 11),
        InputGrid(4, 1, 9),
    ),
    "channels last": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), Permutes(), nn.Flatten(), nn.Linear(60, 3)),
        "3",
        (1, 7, 5),
        InputGrid(4, 5, 3, channels_last=True),
    ),
    "three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(32, 3)),
        "2",
        (1, 4, 4, 4),
        None,
    ),
}


class Permutes(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("name", MODELS)
def test_the_grid_is_that_of_the_flattened_output(name):
    build, layer, shape, expected = MODELS[name]
    torch.manual_seed(0)
    network = open_network(build().eval())
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    assert find_grid(network, network.layers()[layer], x) == expected
