"""Compares the answers of two classifiers on samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flain_core as flain
from flain_core.auxiliary.samples import Samples
from flain_core.network import Array, Network
from flain_core.opening.registry import open_network
from flain_core.outputs import Outputs, Reading
from flain_core.score import accuracy


@dataclass(frozen=True)
class Answers:
    """How the answers of two models differ on n samples.

    Attributes:
        samples: Number of samples.
        different: Number of samples that the second model gives another class.
        newly_wrong: Number of samples that the first model classifies right and the second wrong.
        newly_right: Likewise the other way round.
        accuracy: Of both, from 0 to 1.
        probability: Mean probability of the true class, of both, from 0 to 1.
        largest: The largest absolute difference of two scores, in units of the scores.
    """

    samples: int
    different: int
    newly_wrong: int
    newly_right: int
    accuracy: tuple[float, float]
    probability: tuple[float, float]
    largest: float

    @classmethod
    def of(
        cls,
        a: Any,
        b: Any,
        *,
        data: Path,
        outputs: Outputs | None = None,
        batch_size: int | None = None,
    ) -> Answers:
        """Run two models on the samples of a file.

        Args:
            a: A model, or the path of one.
            b: Likewise.
            data: An ``.npz`` file with x and y.
            outputs: What the scores are; None recognises it.
            batch_size: Samples per pass; None chooses.

        Raises:
            DataError: The samples cannot be used, or the models score different classes.
            ModelError: A model cannot be opened or run.
        """
        samples = Samples.of(data)
        networks = open_network(a), open_network(b)
        given = [_scores(network, samples, batch_size) for network in networks]
        if given[0].shape != given[1].shape:
            raise flain.DataError(
                "expected two models that score the same classes; the one gives scores of shape "
                f"{given[0].shape}, the other of shape {given[1].shape}"
            )
        readings = [Reading.of(scores, outputs) for scores in given]
        by_class = [r.by_class(scores) for r, scores in zip(readings, given, strict=True)]
        probabilities = [
            float(r.of_true_class(scores, samples.y).mean())
            for r, scores in zip(readings, by_class, strict=True)
        ]
        right = [accuracy(scores, samples.y) for scores in by_class]
        classes = [scores.argmax(axis=1) for scores in by_class]
        apart = given[0].astype(np.float64) - given[1].astype(np.float64)
        return cls(
            samples=len(samples),
            different=int(np.count_nonzero(classes[0] != classes[1])),
            newly_wrong=int(np.count_nonzero(right[0] & ~right[1])),
            newly_right=int(np.count_nonzero(~right[0] & right[1])),
            accuracy=(float(right[0].mean()), float(right[1].mean())),
            probability=(probabilities[0], probabilities[1]),
            largest=float(np.abs(apart).max()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it in types that JSON knows."""
        return asdict(self)


def _scores(network: Network, samples: Samples, batch_size: int | None) -> Array:
    return np.concatenate([network.predict(each.x) for each in samples.batches(batch_size)])
