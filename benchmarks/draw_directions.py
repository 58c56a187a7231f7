"""Draws what a flip in directions does to a layer with two inputs: ``docs/figures/directions.svg``.

    python benchmarks/draw_directions.py

The weights are computed by flain's own formulas; nothing is drawn by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt

from flain_core.directions import Directions, InputSpace
from flain_numpy import Dense, Network

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "directions.svg"
SAMPLES = 400
UPDATE = np.array([[0.2, 1.7]])
STRENGTH = 0.02
_INK, _KEPT, _FLIPPED = "#50575f", "#0072b2", "#d55e00"


def main(path: Path = FIGURE) -> None:
    """Draw the figure and write it."""
    inputs = _inputs()
    after = UPDATE - _taken(inputs)
    mpl.rcParams.update({"svg.hashsalt": "directions", "svg.fonttype": "none"})
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), sharex=True, sharey=True)
    _draw(axes[0], inputs, UPDATE[0], "What training added", _FLIPPED)
    _draw(axes[1], inputs, after[0], "What is left of it", _KEPT)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, transparent=True)
    plt.close(figure)


def _inputs() -> npt.NDArray[np.float64]:
    """Two inputs ``(n, 2)`` that clean samples use together, and hardly against each other."""
    rng = np.random.default_rng(3)
    along, across = rng.normal(0, 0.64, SAMPLES), rng.normal(0, 0.06, SAMPLES)
    inputs: npt.NDArray[np.float64] = np.stack([along - across, along + across], axis=1)
    return inputs


def _taken(inputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What a candidate of a middle strength takes from the weight, ``(1, 2)``."""
    network = Network([Dense("fc", UPDATE.astype(np.float32), np.zeros(1, dtype=np.float32))])
    space = InputSpace.of(inputs, bias=True)
    flip = Directions(network, network.layers()["fc"], np.zeros_like(UPDATE), 3.0, space)
    number = int(np.argmin(np.abs(np.log(space.strengths / STRENGTH)))) + 1
    taken: npt.NDArray[np.float64] = flip.fit(number).change()
    return taken


def _draw(
    axes: Any, inputs: npt.NDArray[np.float64], arrow: npt.NDArray[np.float64], title: str, ink: str
) -> None:
    axes.scatter(*inputs.T, s=5, color=_INK, alpha=0.35, linewidths=0)
    axes.annotate(
        "", xy=tuple(arrow), xytext=(0, 0), arrowprops={"color": ink, "width": 2.5, "headwidth": 10}
    )
    axes.set_title(title, color=_INK)
    axes.set_aspect("equal")
    axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xlabel="one input", ylabel="another input")
    axes.tick_params(colors=_INK)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color(_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)


if __name__ == "__main__":
    main()
