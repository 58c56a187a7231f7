"""Samples held back from the search: what they bear out can be promised of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from .grader import Grader
from .network import Array, Network
from .promise import Promise, most_newly_wrong
from .samples import Samples
from .settings import Settings

__all__ = ["HeldBack"]


class HeldBack:
    """Counts newly wrong samples among those that steered and fitted nothing.

    Args:
        trained: The trained model.
        samples: The samples.
        batch_size: Samples per batch; None lets the size of a sample decide.
        grader: Reads the scores as in the search: few samples may look like another kind.
        settings: What is promised, and how surely.
    """

    def __init__(
        self,
        trained: Network,
        samples: Samples,
        batch_size: int | None,
        grader: Grader,
        settings: Settings,
    ) -> None:
        self._trained = trained
        self._samples = samples
        self._batch_size = batch_size
        self._grader = grader
        self._settings = settings

    def __len__(self) -> int:
        return len(self._samples)

    def furthest(self, candidates: Sequence[Callable[[], Network]]) -> int:
        """Return how many candidates in a row keep the promise that was asked for.

        A fixed-sequence test (Angelopoulos et al., Learn then Test, arXiv 2110.01052): it ends at
        the first candidate that fails, so no correction for their number is needed.
        """
        share = self._settings.promise
        if share is None:
            return len(candidates)
        most = most_newly_wrong(len(self._samples), share, self._settings.confidence)
        for index, candidate in enumerate(candidates):
            if most < 0 or self.newly_wrong(candidate()) > most:
                return index
        return len(candidates)

    def promise(self, purified: Network) -> Promise:
        """Return what can be promised of the purified model: what was asked for, if it can be."""
        confidence, share = self._settings.confidence, self._settings.promise
        samples = len(self._samples)
        most = -1 if share is None else most_newly_wrong(samples, share, confidence)
        if share is None or most < 0:
            return Promise.of(samples, self.newly_wrong(purified), confidence)
        return Promise(share, confidence, samples, most)

    def newly_wrong(self, network: Network) -> int:
        """Count the samples that the trained model classifies right and a network wrong."""
        return int(np.count_nonzero(self._right_before & ~self._right(network)))

    @cached_property
    def _right_before(self) -> Array:
        return self._right(self._trained)

    def _right(self, network: Network) -> Array:
        batches = list(self._samples.batches(self._batch_size))
        scores = [network.predict(batch.x) for batch in batches]
        self._grader.recognise(scores)
        right = [
            self._grader.margins(each, batch.y).right
            for each, batch in zip(scores, batches, strict=True)
        ]
        return np.concatenate(right)
