"""Purifies a PyTorch module: ``python examples/purify_pytorch.py``.

The weights come with flain: an MNIST network from a federation of 20 clients, six of them
malicious.
"""

import numpy as np
import torch
from torch import nn

import flain
import flain_numpy
from flain_cli import example

initial, final, auxiliary, clean, triggered = example.files(".npz").paths


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(torch.max_pool2d(self.conv1(x), 2))
        x = torch.relu(torch.max_pool2d(self.conv2(x), 2))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def state_dict(path: str) -> dict[str, torch.Tensor]:
    """The weights in a file; your own would come from torch.load or from the federation."""
    return {
        f"{layer.name}.{part}": torch.tensor(getattr(layer, part))
        for layer in flain_numpy.load(path).operations
        if hasattr(layer, "weight")
        for part in ("weight", "bias")
    }


def samples(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    arrays = np.load(path)
    return torch.tensor(arrays["x"]), torch.tensor(arrays["y"])


model = Net()
model.load_state_dict(state_dict(final))

result = flain.purify(model, initial=state_dict(initial), data=samples(auxiliary))


@torch.no_grad()
def share(module: nn.Module, path: str) -> float:
    """The share of the samples that get the label that they carry."""
    x, y = samples(path)
    return (module.eval()(x).argmax(dim=1) == y).float().mean().item()


print(result.layers[0])
# The triggered samples carry the attacker's target as their label.
print(f"ACC {share(model, clean):.1%} -> {share(result.model, clean):.1%}")
print(f"ASR {share(model, triggered):.1%} -> {share(result.model, triggered):.1%}")
