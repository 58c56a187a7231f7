"""The outcome of a purification: frozen, printable, saveable."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from . import registry
from .asked import Asked
from .network import Array
from .promise import Promise
from .reporting.input_grid import InputGrid
from .reporting.presenting import Plots, html_or_none, write_report
from .score import Scored
from .settings import Settings

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
]
"""The reason why a search ended: the tolerance was crossed; the next candidate would have broken
the promise; every candidate stayed within both; not even the first candidate did; training had not
changed the layer; every input neuron has a negative mean activation, so that none is low; or the
model is right about the samples no more often than by chance, so that they cannot steer."""

Verdict = Literal["flipped", "hardly flipped", "not flipped"]
"""``"flipped"``: a fair part of an update was flipped; whether a backdoor was in it, only a probe
with its trigger shows. ``"hardly flipped"``: so little that a backdoor is probably still there, if
there was one. ``"not flipped"``: the model is as it was."""

_FAIR_SHARE = 0.1


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
class Step:
    """One candidate of the search.

    Attributes:
        threshold: Neurons of at most this activation are flipped; in directions, the strength.
        neurons_flipped: Number of those neurons; in directions, of the neurons that have at least
            half of their update flipped.
        clean: The clean score of the candidate.
        probes: The score on each probe. Probes never influence the search.
        recomputed: Whether rounding could have changed the decision, so that the whole network was
            run with the flipped weight.
        rounding: A full run would have given a clean score within ``clean ± rounding``.
        loss: Mean probability of its true class that a clean sample lost; None where the score is
            what was measured.
        loss_error: Standard error of that mean; the search allows as much as both together.

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
        flipped: ``(in,)`` boolean mask over the input neurons; in directions, those that have at
            least half of their update flipped.
        share: Share of the update's squared size that was flipped, from 0 to 1.
        stop_reason: Why the search ended.
        steps: Every candidate tried, in order.
        activation: ``(in,)`` the statistic that the thresholds were compared with; in directions,
            the variance.
        grouped: Most distinct activation values that one candidate stands for.
        method: ``"incremental"``, or ``"whole network"`` where the fast way could not be proved
            right for this model; the answer is the same.
        why_method: What the proof found.
        seconds: Wall time for this layer.
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
    norms: UpdateNorms | None = None
    grid: InputGrid | None = None

    def __repr__(self) -> str:
        tried = len(self.steps)
        return (
            f"LayerOutcome({self.name!r}, {self._flipped()}, stopped by {self.stop_reason!r} after "
            f"{tried} candidate{'' if tried == 1 else 's'}, {self.method})"
        )

    def _flipped(self) -> str:
        if self.threshold is None:
            return "nothing flipped"
        share = f"{self.share:.1%} of the update flipped"
        if self.flip == "directions":
            return f"{share} in directions, at strength {self.threshold:.6g}"
        neurons = f"{int(self.flipped.sum())} of {self.flipped.size} input neurons"
        return f"{share}, that of {neurons}, at threshold {self.threshold:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome in types that JSON knows; the mask as indices of flipped neurons."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        return plain | {
            "input_neurons": int(self.flipped.size),
            "flipped": np.flatnonzero(self.flipped).tolist(),
            "activation": self.activation.tolist(),
            "steps": [asdict(step) for step in self.steps],
            "norms": self.norms.to_dict() if self.norms else None,
            "grid": asdict(self.grid) if self.grid else None,
        }


def _shown(name: str) -> str:
    """A probe's name, without characters that a terminal would obey."""
    return name if name.isprintable() else ascii(name)


_PLAIN = (
    "name",
    "flip",
    "threshold",
    "share",
    "stop_reason",
    "grouped",
    "method",
    "why_method",
    "seconds",
)


def verdict_on(outcomes: Sequence[LayerOutcome]) -> Verdict:
    """Return the verdict on all layers together."""
    share = max(outcome.share for outcome in outcomes)
    if not share:
        return "not flipped"
    return "flipped" if share >= _FAIR_SHARE else "hardly flipped"


@dataclass(frozen=True, eq=False)
class Purification:
    """A purified model, and what was done to it.

    Attributes:
        model: The purified copy, of the type that was given.
        before: What the model scored before.
        after: What the purified model scores, run in full after everything was written back.
        layers: What was done to each layer, in order.
        settings: How the search decided.
        seconds: Wall time of the whole call.
        promise: What can be promised of samples that nobody has seen; None without samples that
            were held back for it.
        unpurified: SHA-256 of the weights and biases of the model before, in the order of its
            layers (:func:`flain_core.provenance.fingerprint.of_model`).
        notes: What the reader should know, such as what one sample is worth.
        warnings: Those of the notes that were given as warnings as well.
        versions: Versions of flain, NumPy, Python and the framework.
        files: SHA-256 of each file that was read, by path.
        by_class: How the auxiliary samples of each class fared; empty where no classes are known or
            the samples lie elsewhere.
        asked: What the questions took to trusted holders of samples; None where there were none.

    Example:
        >>> from flain_core import purify
        >>> from flain_numpy import Dense, Network
        >>> initial = Network([Dense("scores", np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]))])
        >>> final = Network([Dense("scores", np.array([[1.0, 0.0, -9.0], [0.0, 1.0, 9.0]]))])
        >>> x, y = np.tile([[1.0, 0.2, 0.0], [0.3, 0.9, 0.0]], (50, 1)), np.tile([0, 1], 50)
        >>> result = purify(final, initial=initial, data=(x, y))
        >>> result.verdict, result.after.clean
        ('flipped', 1.0)
        >>> result.card().splitlines()[0]
        '## Purification'
    """

    model: Any
    before: Measurement
    after: Measurement
    layers: tuple[LayerOutcome, ...]
    settings: Settings
    seconds: float
    promise: Promise | None = None
    unpurified: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    by_class: tuple[ClassOutcome, ...] = ()
    asked: Asked | None = None

    @property
    def verdict(self) -> Verdict:
        """Verdict on what was done: see :data:`~flain_core.outcome.Verdict`."""
        return verdict_on(self.layers)

    def __repr__(self) -> str:
        lines = [f"before={self.before}", f"after={self.after}", *map(repr, self.layers)]
        lines += [f"verdict={self.verdict!r}"]
        lines += [f"promise={str(self.promise)!r}"] if self.promise else []
        return f"Purification({type(self.model).__name__}, " + ",\n  ".join(lines) + ")"

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the purified model in the file format that the suffix of ``path`` names.

        The file says that it was purified, and how, so that nobody does it again by mistake
        (:mod:`flain_core.provenance.mark`): ``.onnx``, ``.safetensors``, ``.npz``, ``.keras``,
        ``.h5``, ``.pt``.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, the file exists, it is one that was read, or
                the model's backend does not write that format.
        """
        from .provenance.mark import mark_of
        from .storage.files import check_no_input

        check_no_input(path, self.files)
        registry.save(self.model, path, overwrite=overwrite, mark=mark_of(self))

    def card(self) -> str:
        """Return a section for a model card, in Markdown: what was done, and what it is worth."""
        from .provenance.card import card

        return card(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the model, in types that JSON knows."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "settings": asdict(self.settings),
            "layers": [layer.to_dict() for layer in self.layers],
            "seconds": self.seconds,
            "verdict": self.verdict,
            "promise": asdict(self.promise) if self.promise else None,
            "unpurified": self.unpurified,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
            "files": dict(self.files),
            "by_class": [asdict(each) for each in self.by_class],
            "asked": asdict(self.asked) if self.asked else None,
        }

    @property
    def plot(self) -> Plots:
        """Plots for papers: ``result.plot()`` draws them all, its methods one by one.

        They need ``pip install "flain[report]"``; see
        :class:`~flain_core.reporting.presenting.Plots`.
        """
        return Plots(self)

    def report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a report for people, ``.html``, or the one for programs, ``.json``.

        The page is one file that loads nothing from elsewhere. It needs
        ``pip install "flain[report]"``.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, the file exists, or the suffix is another one.
            FlainError: The extra is not installed.
        """
        write_report(self, path, overwrite=overwrite)

    def _repr_html_(self) -> str | None:
        """Show the report in a notebook, if the extra is installed; else its text is shown."""
        return html_or_none(self)

    def to_json(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the report: settings, versions, file hashes, every step, the layers' outcomes.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, or the file exists.
        """
        import json

        from .storage.files import check_no_input, written_whole

        check_no_input(path, self.files)
        with written_whole(path, overwrite=overwrite) as scratch:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
            scratch.write_text(text + "\n", encoding="utf-8")
