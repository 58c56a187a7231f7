"""What a flip in directions does to a layer with two inputs: ``directions.svg``.

The weights are computed by flain's own formulas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_numpy import Dense, Network

from .canvas import FLIPPED, INK, KEPT, figure, plain

SAMPLES = 400
UPDATE = np.array([[0.2, 1.7]])
STRENGTH = 0.02


def draw(folder: Path) -> None:
    """Draw the update of one output neuron before and after, over the clean samples."""
    inputs = _inputs()
    after = UPDATE - _taken(inputs)
    with figure(folder / "directions.svg", 8.4, 4.2, columns=2) as (left, right):
        _draw(left, inputs, UPDATE[0], "What training added", FLIPPED)
        _draw(right, inputs, after[0], "What is left of it", KEPT)


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
    number = int(np.argmin(np.abs(np.log(flip.strengths / STRENGTH)))) + 1
    taken: npt.NDArray[np.float64] = flip.change(number)
    return taken


def _draw(
    axes: Any, inputs: npt.NDArray[np.float64], arrow: npt.NDArray[np.float64], title: str, ink: str
) -> None:
    axes.scatter(*inputs.T, s=5, color=INK, alpha=0.35, linewidths=0)
    axes.annotate(
        "", xy=tuple(arrow), xytext=(0, 0), arrowprops={"color": ink, "width": 2.5, "headwidth": 10}
    )
    axes.set_title(title)
    axes.set_aspect("equal")
    axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xlabel="one input", ylabel="another input")
    plain(axes)
