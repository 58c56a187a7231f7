"""The network, how a client trains it, and what it scores."""

import torch
from torch import nn

from .mnist import CLASSES


def make_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 7 * 7, 64), nn.ReLU()),
        *(nn.Dropout(0.25), nn.Linear(64, CLASSES)),
    )


def train(network, samples, *, epochs, learning_rate):
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(samples.labels)).split(64):
            scores = network(samples.images[batch])
            loss = nn.functional.cross_entropy(scores, samples.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.inference_mode()
def accuracy(network, samples):
    """The share of samples that the network classifies as labelled, from 0 to 1."""
    network.eval()
    parts = zip(samples.images.split(1000), samples.labels.split(1000), strict=True)
    right = sum((network(images).argmax(1) == labels).sum() for images, labels in parts)
    return float(right) / len(samples.labels)
