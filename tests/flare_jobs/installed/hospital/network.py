"""The network that the sites train."""

import torch
from torch import nn


class Network(nn.Module):
    """12 → 16 → 3."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))
