"""PyTorch modules for flain: open, load and save them, and take their arrays.

>>> import torch
>>> from flain_torch import open_network
>>> model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
>>> open_network(model).layers()["0"]
Layer('0', dense, 4×6, 6 input neurons)
"""

from __future__ import annotations

from flain_core.extras import needs

with needs("flain_torch", "torch", "torch"):
    from ._network import TorchNetwork, adapter_off, open_network
    from ._weights import adapter_names, arrays_of, load, save, weights_in

__all__ = [
    "TorchNetwork",
    "adapter_names",
    "adapter_off",
    "arrays_of",
    "load",
    "open_network",
    "save",
    "weights_in",
]
