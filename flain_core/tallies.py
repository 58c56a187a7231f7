"""Sums over samples: what they are worth, and what they lost since the trained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Tally:
    """The summed worth of some samples, and by how much rounding could have changed it.

    Attributes:
        total: Number of samples classified right, or the sum of the caller's score.
        count: Number of samples.
        uncertain: The total of an exact computation lies within ``total ± uncertain``.
    """

    total: float = 0
    count: int = 0
    uncertain: float = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.total + other.total, self.count + other.count, self.uncertain + other.uncertain
        )

    @property
    def mean(self) -> float:
        """The score: accuracy as a fraction from 0 to 1, or the caller's mean score."""
        return self.total / self.count


@dataclass(frozen=True)
class Loss:
    """The probability of its true class that each clean sample lost since the trained model.

    Attributes:
        total: Sum over the samples of what each lost, from -1 to 1; negative where it gained.
        square: Sum of the squares.
        newly_wrong: Number of samples that the trained model classifies right and this one wrong.
        count: Number of samples.
        before: Sum over the samples of the probability that the trained model gives to their class.
        uncertain: The total of an exact computation lies within ``total ± uncertain``.
    """

    total: float = 0.0
    square: float = 0.0
    newly_wrong: int = 0
    count: int = 0
    before: float = 0.0
    uncertain: float = 0.0

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            self.total + other.total,
            self.square + other.square,
            self.newly_wrong + other.newly_wrong,
            self.count + other.count,
            self.before + other.before,
            self.uncertain + other.uncertain,
        )

    @property
    def missing(self) -> float:
        """Distance of the trained model's mean probability from 1."""
        return 1 - self.before / self.count

    @property
    def mean(self) -> float:
        """Mean loss of a sample."""
        return self.total / self.count

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; infinite for a single sample that lost anything."""
        if not self.square:
            return 0.0
        if self.count < 2:
            return float("inf")
        spread = max(self.square - self.count * self.mean**2, 0.0)
        return math.sqrt(spread / (self.count - 1) / self.count)


@dataclass(frozen=True)
class Scored:
    """The tallies of a model or a candidate.

    Attributes:
        clean: The tally on the auxiliary samples.
        probes: The tally on each probe, by name.
        loss: What the auxiliary samples lost; None where the score itself is what is measured.
        score_lost: How much less their score is than the trained model's, where every holder's own
            loss was merged; None where the tallies tell.
        class_share: Share that the candidate flips of what the update says for one class; None
            where it does not flip for a class.
    """

    clean: Tally
    probes: Mapping[str, Tally] = field(default_factory=dict)
    loss: Loss | None = None
    score_lost: Tally | None = None
    class_share: float | None = None

    @classmethod
    def of(cls, tallies: Mapping[str | None, Tally], loss: Loss | None = None) -> Scored:
        """Build from tallies by name of probe; None names the auxiliary samples."""
        probes = {probe: each for probe, each in tallies.items() if probe is not None}
        return cls(tallies[None], probes, loss)

    def as_exact(self) -> Scored:
        """Return what was scored without any doubt about rounding."""
        loss = replace(self.loss, uncertain=0.0) if self.loss else None
        return replace(self, clean=replace(self.clean, uncertain=0), loss=loss)

    def probe_means(self) -> dict[str, float]:
        """Return the mean score on each probe, by name."""
        return {name: probe.mean for name, probe in self.probes.items()}
