"""The MNIST files, and which client gets which of their images."""

import gzip
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

CLASSES = 10
AUXILIARY = 800


class Samples(NamedTuple):
    """Images float32 (n, 1, 28, 28) from 0 to 1, labels int64 (n,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def take(self, indices):
        return Samples(self.images[indices], self.labels[indices])


def auxiliary(folder, seed):
    """Clean training images that the server keeps and no client has."""
    train = read(folder, "train")
    return train.take(_shuffled(len(train.labels), seed)[:AUXILIARY])


def partition(folder, seed, number, count):
    """The training images of one client."""
    train = read(folder, "train")
    start = AUXILIARY + number * count
    return train.take(_shuffled(len(train.labels), seed)[start : start + count])


@lru_cache
def read(folder, part):
    """All images of a part, "train" or "t10k"."""
    raw = Path(folder or os.environ.get("FLAIN_DATA", "")) / "MNIST" / "raw"
    if not raw.is_dir():
        raise FileNotFoundError(
            f'{raw.resolve()} is no folder: say with data="..." or FLAIN_DATA which one holds it'
        )
    images = _read_idx(raw / f"{part}-images-idx3-ubyte.gz", header=16)
    labels = _read_idx(raw / f"{part}-labels-idx1-ubyte.gz", header=8)
    return Samples(
        torch.from_numpy(images.reshape(-1, 1, 28, 28).astype(np.float32) / 255),
        torch.from_numpy(labels.astype(np.int64)),
    )


def _read_idx(path, header):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def _shuffled(count, seed):
    return torch.from_numpy(np.random.default_rng(seed).permutation(count))
