"""What was done to one layer, and every candidate that was tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from flain_core.network import Array
from flain_core.proof import DOES_NOT_MOVE
from flain_core.reporting.input_grid import InputGrid

Method = Literal["incremental", "whole network", "none"]
"""The way a layer was searched: event by event at a proved cut; by running the whole network for
each candidate; or not at all."""

StopReason = Literal[
    "tolerance",
    "promise",
    "exhausted",
    "nothing within tolerance",
    "no update",
    "all negative",
    "no better than chance",
    "too many of one class",
    "samples of one class",
]
"""The reason why a search ended. In this order: the tolerance was crossed; the next candidate would
have broken the promise; every candidate stayed within both; not even the first one did; training
had not changed the layer; every input neuron has a negative mean activation, so none is low. The
last three say why the samples cannot steer: the model is right about them no more often than by
chance; it is wrong about most and assigns far too many to one class; all are of one class."""


@dataclass(frozen=True)
class Step:
    """One candidate of the search.

    Attributes:
        threshold: Neurons of at most this activation are flipped; in directions, the strength.
        neurons_flipped: Number of those neurons; in directions, of the neurons whose variance is at
            most the strength.
        clean: The clean score of the candidate.
        probes: The score on each probe. Probes never influence the search.
        recomputed: Whether rounding could have changed the decision, so that the whole network was
            run with the flipped weight.
        rounding: A full run would have given a clean score within ``clean ± rounding``.
        loss: Mean probability of its true class that a clean sample lost; None where the score is
            what was measured.
        loss_error: Standard error of that mean; the search allows as much as both together.
        class_share: As :class:`LayerOutcome` has it, of this candidate.

    Example:
        >>> step = Step(threshold=0.02, neurons_flipped=485, clean=0.973, probes={"ASR": 0.0})
        >>> step.probes["ASR"], step.recomputed
        (0.0, False)
    """

    threshold: float
    neurons_flipped: int
    clean: float
    probes: Mapping[str, float] = field(default_factory=dict)
    recomputed: bool = False
    rounding: float = 0.0
    loss: float | None = None
    loss_error: float | None = None
    class_share: float | None = None


@dataclass(frozen=True, eq=False)
class UpdateNorms:
    """Frobenius norms of a layer's weights and of their changes.

    Attributes:
        initial: Norm of the weight before training.
        trained: Norm of the trained weight.
        purified: Norm of the purified weight.
        update: ``(in,)`` for each input neuron, the norm of what training changed of its weights.
        change: ``(in,)`` likewise, of what purifying changed.
    """

    initial: float
    trained: float
    purified: float
    update: Array
    change: Array

    def to_dict(self) -> dict[str, Any]:
        """Return the norms in types that JSON knows."""
        return asdict(self) | {"update": self.update.tolist(), "change": self.change.tolist()}


@dataclass(frozen=True, eq=False)
class LayerOutcome:
    """The outcome of one layer.

    Attributes:
        name: The layer.
        flip: What was flipped: ``"directions"`` of the input space, ``"neurons"``, or ``"none"``.
        threshold: The chosen threshold, in units of the statistic, or the chosen strength, in units
            of the inputs' variance; None if nothing was flipped.
        flipped: ``(in,)`` boolean mask over the input neurons; in directions, those whose variance
            is at most the strength.
        share: Share of the update's squared size that was flipped, from 0 to about 1.
        stop_reason: Why the search ended.
        steps: Every candidate tried, in order.
        activation: ``(in,)`` the statistic that the thresholds were compared with; in directions,
            the variance.
        grouped: Most distinct activation values that one candidate stands for.
        method: ``"incremental"``, or ``"whole network"`` where the fast way could not be proved
            right for this model; the answer is the same.
        why_method: What the proof found.
        seconds: Wall time for this layer.
        class_share: Share, from 0 to about 1, that was flipped of what the update says for the
            class that is flipped most strongly; None where all classes are flipped alike.
        most_flipped_class: Label of that class; None also where there are two classes, as what
            speaks for one speaks against the other. Some class stands out without an attack too, so
            it is no proof of one.
        norms: Norms of the layer's update and of what purifying changed.
        grid: The channel, row and column of each input of a dense layer behind a convolution; None
            elsewhere, or where that does not show.

    Example:
        >>> outcome = LayerOutcome(
        ...     name="fc1", flip="neurons", threshold=0.25, flipped=np.array([True, False, True]),
        ...     share=0.4, stop_reason="tolerance", steps=(), activation=np.array([0.0, 0.9, 0.2]),
        ...     grouped=1, method="incremental", why_method="the cut was proved", seconds=0.1,
        ... )
        >>> outcome.to_dict()["flipped"]
        [0, 2]
    """

    name: str
    flip: Literal["directions", "neurons", "none"]
    threshold: float | None
    flipped: Array
    share: float
    stop_reason: StopReason
    steps: tuple[Step, ...]
    activation: Array
    grouped: int
    method: Method
    why_method: str
    seconds: float
    class_share: float | None = None
    most_flipped_class: int | None = None
    norms: UpdateNorms | None = None
    grid: InputGrid | None = None

    @property
    def moves_scores(self) -> bool:
        """Whether the layer's weights move the model's scores at all, as far as was found out."""
        return DOES_NOT_MOVE not in self.why_method

    @property
    def limiting_share(self) -> float | None:
        """The share of a class by which its limit was chosen; None where nothing was flipped."""
        return self.class_share if self.share else None

    def share_in_words(self, percent: Callable[[float], str] = "{:.1%}".format) -> str:
        """Return which share was flipped of the whole update, and for the class of which most was.

        Args:
            percent: Writes a share from 0 to 1 as words.
        """
        whole = f"{percent(self.share)} of the update"
        if self.class_share is None:
            return whole
        label = self.most_flipped_class
        says = "tells the classes apart" if label is None else f"it says for class {label}"
        return f"{whole} ({percent(self.class_share)} of what {says})"

    def __repr__(self) -> str:
        tried = len(self.steps)
        return (
            f"LayerOutcome({self.name!r}, {self._flipped()}, stopped by {self.stop_reason!r} after "
            f"{tried} candidate{'' if tried == 1 else 's'}, {self.method})"
        )

    def _flipped(self) -> str:
        if self.threshold is None:
            return "nothing flipped"
        share = f"{self.share_in_words()} flipped"
        if self.flip == "directions":
            return f"{share} in directions, at strength {self.threshold:.6g}"
        neurons = f"{int(self.flipped.sum())} of {self.flipped.size} input neurons"
        return f"{share}, that of {neurons}, at threshold {self.threshold:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome in types that JSON knows; the mask as indices of flipped neurons."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "input_neurons": int(self.flipped.size),
            "flipped": np.flatnonzero(self.flipped).tolist(),
            "activation": self.activation.tolist(),
            "steps": [asdict(step) for step in self.steps],
            "norms": self.norms.to_dict() if self.norms else None,
            "grid": asdict(self.grid) if self.grid else None,
        }
