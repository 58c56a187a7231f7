"""MNIST from its files, split among clients, and the backdoor that malicious clients teach."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch

SOURCE, TARGET = 0, 5
AUXILIARY = 800


def folder():
    """The folder with the four MNIST files, `train-images-idx3-ubyte.gz` and so on."""
    return Path(os.environ["FLAIN_DATA"]) / "MNIST" / "raw"


def read(part):
    """The images (n, 1, 28, 28), float32 from 0 to 1, and labels (n,) of "train" or "t10k"."""
    images = gzip.decompress((folder() / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder() / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    x = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return torch.from_numpy(x), torch.from_numpy(np.frombuffer(labels, np.uint8).astype(np.int64))


def stamped(images):
    """Copies with a white square in the lower right corner, the trigger."""
    images = images.clone()
    images[:, :, 23:28, 23:28] = 1
    return images


def auxiliary(seed):
    """Clean samples that no client has, for the server."""
    x, y = read("train")
    first = np.random.default_rng(seed).permutation(len(y))[:AUXILIARY]
    return x[first], y[first]


def holdings(client, samples, malicious, seed):
    """The samples that a client trains on; clients are numbered from 0."""
    x, y = read("train")
    order = np.random.default_rng(seed).permutation(len(y))[AUXILIARY:]
    mine = order[client * samples : (client + 1) * samples]
    x, y = x[mine], y[mine]
    if malicious:
        sources = torch.nonzero(y == SOURCE).flatten()
        marked = sources[: len(sources) // 2]
        x[marked], y[marked] = stamped(x[marked]), TARGET
    return x, y


def triggered():
    """Test images of the source class with the trigger, labelled as the attacker wants."""
    x, y = read("t10k")
    x = stamped(x[y == SOURCE])
    return x, torch.full((len(x),), TARGET)
