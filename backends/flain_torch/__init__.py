"""PyTorch modules for flain: open, load and save them.

>>> import torch
>>> from flain_torch import open_network
>>> model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
>>> open_network(model).layers()["0"]
Layer('0', dense, 4×6, 6 input neurons)
"""

from __future__ import annotations

from ._files import load, save
from ._network import TorchNetwork, open_network

__all__ = ["TorchNetwork", "load", "open_network", "save"]
