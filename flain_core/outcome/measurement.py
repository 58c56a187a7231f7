"""The scores of a model, before and after, in all and by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flain_core.tallies import Scored


@dataclass(frozen=True)
class Measurement:
    """The scores of a model.

    Attributes:
        clean: The score on the auxiliary data: accuracy from 0 to 1, unless a score was given.
        probes: The score on each probe, by name.
        samples: Number of samples behind each accuracy, by name of probe, and under ``"clean"``
            that of the auxiliary ones; empty where a score was given.
        probability: Mean probability that the model gives to the true class of an auxiliary sample;
            None where it was not measured.

    Example:
        >>> Measurement(clean=0.9712, probes={"ASR": 0.0})
        Measurement(clean=0.9712, ASR=0.0000)
    """

    clean: float
    probes: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    # Rounding differs with the way in which samples are divided into batches.
    probability: float | None = field(default=None, compare=False)

    @classmethod
    def of(cls, scored: Scored, *, classify: bool = False) -> Measurement:
        """Take the means of tallies.

        Args:
            scored: The tallies.
            classify: Whether they count samples that are classified right.
        """
        tallies = {"clean": scored.clean, **scored.probes}
        loss = scored.loss
        return cls(
            clean=scored.clean.mean,
            probes=scored.probe_means(),
            samples={name: each.count for name, each in tallies.items()} if classify else {},
            probability=(loss.before - loss.total) / loss.count if loss else None,
        )

    def __repr__(self) -> str:
        probes = "".join(f", {_shown(name)}={value:.4f}" for name, value in self.probes.items())
        return f"Measurement(clean={self.clean:.4f}{probes})"


@dataclass(frozen=True)
class ClassOutcome:
    """Numbers of auxiliary samples of one class, in all and right.

    Attributes:
        label: The class.
        samples: How many of the samples that steered the search are of this class.
        right_before: How many of them the trained model classifies right.
        right_after: How many of them the purified model classifies right.
    """

    label: int
    samples: int
    right_before: int
    right_after: int


def _shown(name: str) -> str:
    """A probe's name, without characters that a terminal would obey."""
    return name if name.isprintable() else ascii(name)
