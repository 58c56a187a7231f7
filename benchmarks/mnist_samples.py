"""The images of MNIST with their labels, read from the files in which it is distributed."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CLASSES = 10
SIDE = 28

Indices: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled grey images: `images` uint8 (n, 1, 28, 28), `labels` int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> Samples:
        """Copies of the samples at `indices` (k,), in that order."""
        at = torch.from_numpy(indices)
        return Samples(self.images[at], self.labels[at])


def inputs(images: Tensor) -> Tensor:
    """Network inputs, float32 in [0, 1], for uint8 images of any shape."""
    return images.float() / 255


_IDX_UINT8 = 8


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The uint8 array in a gzipped IDX file.

    IDX is two zero bytes, the element type, the number of axes, one big-endian uint32
    per axis, then the elements in C order.
    """
    with gzip.open(path, "rb") as file:
        content = file.read()
    zeros, kind, axes = content[:2], content[2], content[3]
    if zeros != b"\0\0" or kind != _IDX_UINT8:
        raise ValueError(f"{path} is not an IDX file of uint8: it starts {content[:4]!r}")
    header = 4 + 4 * axes
    shape = np.frombuffer(content[4:header], dtype=">u4").astype(np.int64)
    elements = np.frombuffer(content[header:], dtype=np.uint8)
    if len(elements) != shape.prod():
        raise ValueError(
            f"{path} announces shape {tuple(shape.tolist())} but holds {len(elements)} "
            f"elements; fetch the file again"
        )
    return elements.reshape(shape).copy()


def read_mnist(folder: Path) -> tuple[Samples, Samples]:
    """The 60,000 training and the 10,000 test samples in a folder of gzipped IDX files."""

    def read(part: str) -> Samples:
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        return Samples(
            torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
        )

    return read("train"), read("t10k")
