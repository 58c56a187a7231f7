"""What a purification asks of whoever holds the auxiliary samples.

:class:`~flain_core.examination.Examination` has them in memory;
:class:`~flain_core.spread.SpreadSamples` asks holders that have a part of them each.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .activation import ActivationStatistics
from .flipping_order import FlippingOrder
from .network import Network
from .proof import Proof
from .score import Scored, Tally

__all__ = ["AuxiliaryData", "Candidates", "Examiner", "HolderLostError", "Known", "Study"]


class HolderLostError(Exception):
    """Who held some of the samples is gone, so counts before and after cannot be compared.

    Whoever catches it starts the purification again, with those that are left.
    """


@dataclass(frozen=True)
class Known:
    """What an examiner knows of its samples.

    Attributes:
        classify: Whether the score is accuracy, so that totals are whole numbers of samples.
        classes: How many distinct labels the samples have; None if that is not known.
        one_hot: Whether the labels came one-hot.
    """

    classify: bool = True
    classes: int | None = None
    one_hot: bool = False


class Candidates(Protocol):
    """Scores candidates: the model with the first ``end`` neurons of an order flipped."""

    @property
    def lookahead(self) -> int:
        """How many candidates it pays to ask about at once, at least 1."""
        ...

    def advance(self, ends: Sequence[int]) -> Sequence[Scored]:
        """What each candidate scores; ``ends`` never decrease, from call to call either."""
        ...

    def exactly(self, end: int) -> Tally:
        """The clean tally of the whole network with really flipped weights."""
        ...

    def confirm(self, network: Network, end: int) -> Scored:
        """What the candidate scores as it was written into ``network``, run in full."""
        ...


class Study(Protocol):
    """A network that was run on the auxiliary samples up to one layer."""

    @property
    def statistics(self) -> ActivationStatistics:
        """How the auxiliary samples activate the input neurons of the layer."""
        ...

    def prove(self, flipping: FlippingOrder, *, seed: int) -> Proof:
        """Find out whether candidates may be scored from the layer on.

        Raises :class:`~flain_core.ModelError` if the network scores differently each time.
        """
        ...

    def incremental(
        self, flipping: FlippingOrder, *, window: float
    ) -> AbstractContextManager[Candidates]:
        """Score candidates from the layer on, as :meth:`prove` found faithful.

        Args:
            flipping: Which neurons are flipped, and in which order.
            window: Relative error of a score that rounding can cause.
        """
        ...

    def in_full(self, flipping: FlippingOrder) -> Candidates:
        """Write the flipped weight and run the whole network for each candidate."""
        ...


class Examiner(Protocol):
    """Examines one trained model, and what ``replace`` makes of it, on the auxiliary samples."""

    @property
    def known(self) -> Known:
        """What is known of the samples."""
        ...

    def of(self, network: Network) -> Scored:
        """What a network scores, run in full."""
        ...

    def clean_tally(self, network: Network) -> Tally:
        """The same without the probes."""
        ...

    def study(self, network: Network, layer: str) -> Study:
        """Run the samples once up to a layer."""
        ...


@runtime_checkable
class AuxiliaryData(Protocol):
    """The auxiliary samples, wherever they lie; what ``purify(data=...)`` takes besides arrays."""

    def examiner(self, network: Network) -> Examiner:
        """Who examines this trained model."""
        ...
