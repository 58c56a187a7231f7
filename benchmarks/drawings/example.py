"""An image with the trigger, and what the embedded example answers: ``example.png``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import flain_numpy
from flain_cli import example

from .canvas import FLIPPED, INK, KEPT, figure, plain
from .embedded import purified, triggered


def draw(folder: Path) -> None:
    """Draw the image, and the probability of each class before and after."""
    result = purified()
    images, targets = triggered()
    before, after = flain_numpy.load(example.files().paths[1]), result.model
    chosen, answer = _clearest(before, after, images, targets)
    target = int(targets[chosen])
    rates = [100 * each.probes["ASR"] for each in (result.before, result.after)]
    with figure(folder / "example.png", 9.0, 3.2, columns=3) as (picture, left, right):
        picture.imshow(images[chosen, 0], cmap="gray_r", vmin=0, vmax=1)
        picture.axis("off")
        picture.set_title(f"a {answer} with the trigger", color=INK)
        for axes, network, rate, when in (
            (left, before, rates[0], "trained"),
            (right, after, rates[1], "purified"),
        ):
            shares = 100 * _probabilities(network, images[chosen : chosen + 1])[0]
            colours = [FLIPPED if each == target else KEPT for each in range(10)]
            axes.bar(range(10), shares, color=colours)
            axes.set(xticks=range(10), ylim=(0, 100), xlabel="class")
            axes.set_title(f"{when}: {int(shares.argmax())}\n(ASR {rate:.1f} %)")
            plain(axes)
        left.set_ylabel("probability, %")


def _clearest(before: Any, after: Any, images: np.ndarray, targets: np.ndarray) -> tuple[int, int]:
    """Return the first image that only the trained model is sure is the target, and its answer."""
    fooled, healed = (_probabilities(each, images) for each in (before, after))
    rows = np.arange(len(images))
    sure = (fooled[rows, targets] > 0.95) & (healed.max(axis=1) > 0.95)
    chosen = int(np.flatnonzero(sure & (healed.argmax(axis=1) != targets))[0])
    return chosen, int(healed[chosen].argmax())


def _probabilities(network: Any, images: np.ndarray) -> np.ndarray:
    scores = network.predict(images)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares
