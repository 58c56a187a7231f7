"""Auxiliary samples, wherever they lie: protocols of their source and of what scores with them.

:class:`~flain_core.local_samples.LocalSamples` has them in memory;
:class:`~flain_core.federated.coordinator.CoordinatedSamples` asks holders that have a part each. A
*candidate* is the model with the first few neurons of an order flipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .activation import ActivationStatistics
from .binomial import standard_error
from .in_directions.directions import Flipping
from .network import Array, Network
from .outcome.asked import Asked
from .outputs import Reading
from .proof import Proof
from .settings import Settings
from .tallies import Scored, Tally

if TYPE_CHECKING:
    from .in_memory.held_back import HeldBack

__all__ = [
    "Candidates",
    "HolderLostError",
    "SampleFacts",
    "SampleSource",
    "Scorer",
    "is_sample_source",
]


_HARDLY_KNOWS = 0.1


class HolderLostError(Exception):
    """A holder of samples left, so counts before and after cannot be compared.

    The purification starts again with the holders that are left.
    """


@dataclass(frozen=True)
class SampleFacts:
    """Facts about the auxiliary samples.

    Attributes:
        classify: Whether the score is accuracy, so that totals are whole numbers of samples.
        classes: How many distinct labels the samples have; None if that is not known.
        greatest_label: The greatest of them; None if that is not known.
        one_hot: Whether the labels came one-hot.
        probe_classes: How many distinct labels each probe has, by name, as far as that is known.
        copies: Share of the samples whose inputs another has too; 0 if that is not known.
        pixels: Whether the inputs are whole numbers like those of pixels that nobody scaled.
        local: Whether any model can be scored on the samples at once. Samples elsewhere may be
            reachable only later, and know only what becomes of the trained model.
    """

    classify: bool = True
    classes: int | None = None
    greatest_label: int | None = None
    one_hot: bool = False
    probe_classes: Mapping[str, int] = field(default_factory=dict)
    copies: float = 0.0
    pixels: bool = False
    local: bool = False

    def no_better_than_chance(self, clean: Tally, classes: int | None = None) -> bool:
        """Return whether a model does about as well as one that guesses.

        That is, by no more than luck, or by no more than a tenth of what is left to know. Labels
        or inputs do not fit such a model, so samples say nothing of what it loses.

        Args:
            clean: How it does.
            classes: How many classes the model tells apart, for where it is not known how many the
                samples have, or where that is one.

        >>> facts = SampleFacts(classes=10)
        >>> [facts.no_better_than_chance(Tally(right, 640)) for right in (80, 200)]
        [True, False]
        """
        if self.classes is not None and self.classes > 1:
            classes = self.classes
        if not self.classify or not classes or classes == 1:
            return False
        chance = 1 / classes
        luck = standard_error(chance, clean.count)
        return bool(clean.mean <= chance + max(luck, _HARDLY_KNOWS * (1 - chance)))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scores the candidates of one search by their numbers: of a schedule, or 0 for the model.

    Attributes:
        advance: Scores several candidates. Where neurons are flipped, their numbers never decrease,
            from call to call either.
        score_in_full: Scores a candidate on the clean samples without any doubt about rounding: by
            the whole network with really flipped weights, for those samples that it could decide.
        lookahead: Number of candidates that it pays to ask about at once, at least 1.
        as_written: Returns what the written candidate has to score; None where that is what the
            search said.
    """

    advance: Callable[[Sequence[int]], Sequence[Scored]]
    score_in_full: Callable[[int], Scored]
    lookahead: int = 1
    as_written: Callable[[int], Scored] | None = None


class Scorer(Protocol):
    """Scores one trained model, and what ``replace`` makes of it, on the auxiliary samples."""

    @property
    def held_back(self) -> HeldBack | None:
        """Counts for a promise; None where no samples are held back."""
        ...

    @property
    def reading(self) -> Reading | None:
        """Reading of a classifier's scores; None where that is not known."""
        ...

    @property
    def asked(self) -> Asked | None:
        """What questions to holders of samples took so far; None where samples are here."""
        ...

    @property
    def left_out(self) -> Sequence[str]:
        """What was said of each holder of samples that was left out, as a warning at that time."""
        ...

    def score_of(
        self, network: Network, *, probes: bool = True, candidate: int | None = None
    ) -> Scored:
        """Run a network in full on the clean samples and, unless told otherwise, the probes.

        Args:
            network: The trained model, or what ``replace`` makes of it.
            probes: Whether to score the probes as well.
            candidate: Its number, if it is a candidate of the last search, so that what was said of
                it then can be compared.
        """
        ...

    def study(self, network: Network, layer: str) -> tuple[ActivationStatistics, Array | None]:
        """Run the samples once up to a layer.

        Returns:
            Statistics of how they activate the layer's input neurons; and ``(n, in, *positions)``
            what enters a dense layer for the clean samples, for flipping in directions, or None
            where candidates cannot be scored for any pre-activations.
        """
        ...

    def prove(self, flipping: Flipping, *, seed: int) -> Proof:
        """Find out whether candidates may be scored from the layer on that was studied last.

        Raises :class:`~flain_core.ModelError` if the network scores differently each time.
        """
        ...

    def toward_classes(self, updates: Array) -> tuple[Array, Array, Array] | None:
        """Find out along which outputs of the layer studied last the score of each class grows.

        Args:
            updates: ``(out,)`` the greatest magnitude in the update of each output, not all 0.

        Returns:
            ``(classes, out)`` of length 1; ``(n,)`` to which of these classes each sample belongs,
            -1 to none; and ``(classes,)`` their labels. None where that is not known.
        """
        ...

    def candidates(
        self, flipping: Flipping, *, window: float | None
    ) -> AbstractContextManager[Candidates]:
        """Score candidates from the layer on, or by running the whole network for each.

        Args:
            flipping: What each candidate flips, in the layer that was studied last.
            window: Relative error of a score that rounding can cause, where :meth:`prove` found
                the cut faithful; None runs the whole network.
        """
        ...


class SampleSource(Protocol):
    """The auxiliary samples, wherever they lie; ``purify(data=...)`` takes one besides arrays."""

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples."""
        ...

    def scorer(self, network: Network, settings: Settings, seed: int) -> Scorer:
        """Return what scores this trained model.

        Args:
            network: The trained model.
            settings: With every choice made.
            seed: Splits the samples, where the settings ask for it.
        """
        ...


def is_sample_source(data: object) -> bool:
    """Return whether an object has the members of :class:`SampleSource`."""
    return callable(getattr(data, "scorer", None)) and not isinstance(data, type)
