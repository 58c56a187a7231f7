"""Samples held back from the search: which, and what they bear out to be promised of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flain_core.auxiliary.samples import Samples
from flain_core.errors import DataError
from flain_core.network import Array, Network
from flain_core.promise import Promise, most_newly_wrong, samples_needed
from flain_core.settings import Settings

from .grader import Grader

_MOST_SEARCHING = 1024
_HELD_BACK = 0.2
_MOST_HELD_BACK = 0.6
_ENOUGH_TO_HOLD_BACK = 200


def split(samples: Samples, settings: Settings, seed: int) -> tuple[Samples, Samples | None]:
    """Divide samples at random, as settings say, with every choice made.

    Returns:
        The samples that search: they show how clean data activates a layer, and decide when to
        stop; more than some thousand would cost time and hardly change what is found. And those
        held back, which bear out a promise, no two alike, and none like one that searches; None
        for none, as where only samples of one class would be left to search.

    Raises:
        DataError: There are too few samples to divide, of all classes but one too.
    """
    if settings.measure == "score":
        return samples, None
    count = len(samples)
    held_back = _held_back(count, settings)
    if held_back >= count:
        raise DataError(
            f"expected more auxiliary samples than the {held_back} that are held back; got {count}"
        )
    if not held_back:
        return samples, None
    shuffled = np.random.default_rng(seed).permutation(count)
    kept_apart = _without_copies(samples, shuffled, held_back)
    if not kept_apart.size and (settings.promise is not None or settings.held_back):
        raise DataError(
            "expected auxiliary samples that differ, so that some can be held back; got "
            f"{count} of which too many are copies of each other"
        )
    alike = samples.first_alike
    searching = np.flatnonzero(~np.isin(alike, alike[kept_apart]))
    of_one_class = searching.size > 1 and _all_alike(samples.y[searching])
    if of_one_class and not _all_alike(samples.y):
        if settings.promise is not None or settings.held_back:
            raise DataError(
                "expected auxiliary samples of several classes after some are held back; got so "
                "few of all but one class that none of them would search. Give more of them"
            )
        return samples, None
    apart = samples.part(np.sort(kept_apart)) if kept_apart.size else None
    return samples.part(searching), apart


def _all_alike(labels: Array) -> bool:
    return bool((labels == labels[:1]).all())


def _without_copies(samples: Samples, shuffled: Array, held_back: int) -> Array:
    """Return which samples to hold back, one of each that are alike, in any order.

    A copy that searched would know what it is to bear out, and one that is held back bears out
    nothing more: both count as one sample, and all copies are kept from the search.
    """
    alike = samples.first_alike
    copies = np.bincount(alike, minlength=len(samples))
    if copies.max() == 1:
        return shuffled[:held_back]
    chosen, left = [], held_back
    for index in shuffled[alike[shuffled] == shuffled]:
        if copies[index] <= left:
            chosen.append(index)
            left -= copies[index]
    return np.array(chosen, dtype=np.intp)


def _held_back(count: int, settings: Settings) -> int:
    share = settings.held_back
    if share is None and settings.promise is not None:
        needed = samples_needed(settings.promise, settings.confidence, allowed=1)
        share = min(max(needed / count, _HELD_BACK), _MOST_HELD_BACK)
    if share is None:
        share = _HELD_BACK if count >= _ENOUGH_TO_HOLD_BACK else 0.0
    return max(round(share * count), count - _MOST_SEARCHING) if share else 0


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
        self.batch_size = batch_size
        self._grader = grader
        self._settings = settings
        self._right_before: Array | None = None

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
        if self._right_before is None:
            # In one pass, as it may cost much to draw the samples again.
            self._right_before, right = self._right(self._trained, network)
        else:
            (right,) = self._right(network)
        return int(np.count_nonzero(self._right_before & ~right))

    def _right(self, *networks: Network) -> list[Array]:
        """Return for each network which samples it classifies right."""
        labels: list[Array] = []
        scores: list[list[Array]] = [[] for _ in networks]
        for batch in self._samples.batches(self.batch_size):
            x = batch.x
            labels.append(batch.y)
            for of_network, network in zip(scores, networks, strict=True):
                of_network.append(network.predict(x))
        self._grader.recognise(scores[0], labels)
        graded = [map(self._grader.margins, of_network, labels) for of_network in scores]
        return [np.concatenate([batch.right for batch in batches]) for batches in graded]
