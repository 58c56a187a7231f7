"""Data sets, cut into images for clients, auxiliary images and test images that never meet.

Which images clients and the defender hold depends on the seed; test images are always the same.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

CLASSES = 10

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """Images uint8 ``(n, channels, side, side)`` and their classes int64 ``(n,)``."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, at: Indices) -> Images:
        """Copies of the images at ``at``, in that order."""
        return Images(self.pixels[at], self.labels[at])


@dataclass(frozen=True)
class Split:
    """How many images of a data set go where; ``spare`` ones top up the attackers' sources."""

    clients: int
    auxiliary: int
    spare: int
    mean: float
    std: float


# MNIST: 10,000 of 60,000 to clients, 5,000 to the defender; all 10,000 test images.
# CIFAR-10: 20,000 images at hand, 16,000 to clients, 3,500 to the defender; 5,000 test images.
# Digits: 1,797 images, 1,000 to clients, 350 to the defender; the last 397 are test images.
SPLITS = {
    "mnist": Split(10_000, 5_000, 5_000, 0.1307, 0.3081),
    "cifar": Split(16_000, 3_500, 500, 0.47, 0.25),
    "digits": Split(1_000, 350, 50, 0.3, 0.37),
}


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set as one seed divides it; ``split`` says how, and how inputs are scaled."""

    name: str
    clients: Images
    auxiliary: Images
    spare: Images
    test: Images
    split: Split

    def inputs(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Network inputs float32 of the same shape: ``(pixel / 255 - mean) / std``."""
        return ((pixels.astype(np.float32) / 255 - self.split.mean) / self.split.std).astype(
            np.float32
        )


def divided(name: str, seed: int) -> DataSet:
    """The data set as ``seed`` divides it.

    Raises:
        FileNotFoundError: ``FLAIN_DATA`` names no folder with the files.
        KeyError: No such data set.
    """
    split = SPLITS[name]
    train, test = _read(name)
    order = np.random.default_rng(1000 + seed).permutation(len(train))
    ends = np.cumsum([split.clients, split.auxiliary, split.spare])
    parts = np.split(order[: ends[-1]], ends[:-1])
    clients, auxiliary, spare = map(train.take, parts)
    return DataSet(name, clients, auxiliary, spare, test, split)


def folder() -> Path:
    """The folder with MNIST and CIFAR-10, which the variable ``FLAIN_DATA`` names."""
    if not (named := os.environ.get("FLAIN_DATA")):
        raise FileNotFoundError("set FLAIN_DATA to the folder with MNIST/raw and cifar10-jpeg.tar")
    return Path(named)


@lru_cache(maxsize=3)
def _read(name: str) -> tuple[Images, Images]:
    return {"mnist": _mnist, "cifar": _cifar, "digits": _digits}[name]()


def _mnist() -> tuple[Images, Images]:
    def part(prefix: str) -> Images:
        raw = folder() / "MNIST" / "raw"
        pixels = _idx(raw / f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
        labels = _idx(raw / f"{prefix}-labels-idx1-ubyte.gz", 8).astype(np.int64)
        return Images(pixels, labels)

    return part("train"), part("t10k")


def _idx(path: Path, header: int) -> npt.NDArray[np.uint8]:
    with gzip.open(path, "rb") as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header)


def _cifar() -> tuple[Images, Images]:
    from PIL import Image

    read: dict[str, list[tuple[str, str, npt.NDArray[np.uint8]]]] = {"train": [], "test": []}
    with tarfile.open(folder() / "cifar10-jpeg.tar") as archive:
        for member in archive:
            if not (file := archive.extractfile(member)):
                continue
            folder_name, label, name = member.name.split("/")
            image = np.asarray(Image.open(io.BytesIO(file.read())), dtype=np.uint8)
            read[folder_name].append((label, name, image.transpose(2, 0, 1)))

    def part(name: str, step: int) -> Images:
        ordered = sorted(read[name], key=lambda one: one[:2])[::step]
        names = sorted({label for label, _, _ in ordered})
        labels = np.array([names.index(label) for label, _, _ in ordered], dtype=np.int64)
        return Images(np.stack([image for _, _, image in ordered]), labels)

    return part("train", 1), part("test", 2)


def _digits() -> tuple[Images, Images]:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.round(found.images * 255 / 16).astype(np.uint8)[:, None]
    labels = found.target.astype(np.int64)
    return Images(pixels[:-397], labels[:-397]), Images(pixels[-397:], labels[-397:])
