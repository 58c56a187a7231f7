"""Grades the scores of samples: what they are worth, and what they lost since the trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from flain_core.errors import DataError, ModelError
from flain_core.network import Array
from flain_core.outputs import Outputs, Reading
from flain_core.score import Margins, Score, accuracy, check_by_sample, margins, tally
from flain_core.settings import Measure
from flain_core.tallies import Loss, Scored, Tally

Graded: TypeAlias = "tuple[str | None, Array, Array]"
"""The name of a batch's probe (None for the auxiliary samples), its labels and its scores."""


class Grader:
    """Grades scores on the same samples again and again, in the same order.

    Args:
        score: Worth of a sample.
        outputs: What a classifier's scores are; None recognises it from the first that are graded,
            which are those of the trained model.
        measure: What a loss of the auxiliary samples is measured of, as
            :class:`~flain_core.Settings` has it: by ``"auto"`` the probability, unless the trained
            model is much less sure than it is right.
    """

    def __init__(
        self,
        score: Score = accuracy,
        outputs: Outputs | None = None,
        *,
        measure: Measure = "score",
    ) -> None:
        self._score = score
        self._outputs: Outputs | None = outputs
        self._measure = measure
        self._score_is_checked = score is accuracy
        self._reads_probability = self._measures_loss = measure != "score"
        self.reading: Reading | None = None
        """Reading of the scores; None until some were seen, or for the caller's score."""
        self.trained: Margins | None = None
        """Margins of the trained model on the auxiliary samples of a classifier."""
        self.latest: Margins | None = None
        """Margins of the model that was last graded in one go."""

    @property
    def follows_samples(self) -> bool:
        """True if samples are graded one by one; a caller's score function sees whole batches."""
        return self._score is accuracy

    def start_anew(self) -> None:
        """Count losses from the model that is graded next."""
        self.trained = None

    def recognise(self, scores: Sequence[Array], labels: Sequence[Array]) -> None:
        """Decide how to read scores, from those of all auxiliary samples, batch by batch.

        A few samples may look like another kind: the logits of one batch may all be from 0 to 1.
        """
        if self.reading is None and self._score is accuracy:
            alike = len({batch.shape[1:] for batch in scores}) == 1
            some = slice(None) if alike else slice(1)
            self.reading = Reading.of(
                np.concatenate(scores[some]), self._outputs, np.concatenate(labels[some])
            )

    def margins(self, scores: Array, y: Array) -> Margins:
        """Return the margins of some samples of a classifier."""
        if self.reading is None:
            self.recognise([scores], [y])
        return margins(scores, y, self.reading, probability=self._reads_probability)

    def grade(self, scores: Iterable[Graded], window: float = 0.0) -> Scored:
        """Sum up the worth of all samples.

        Args:
            scores: All batches.
            window: Relative rounding error of the scores.
        """
        if self.reading is None and self._score is accuracy:
            scores = list(scores)
            clean_batches = [(batch, y) for probe, y, batch in scores if probe is None]
            self.recognise(*zip(*clean_batches, strict=True))
        tallies: dict[str | None, Tally] = {}
        clean: list[Margins] = []
        for probe, y, batch in scores:
            with naming(probe):
                if self._score is accuracy:
                    seen = self.margins(batch, y)
                    counted = seen.tally(window)
                    if probe is None:
                        clean.append(seen)
                else:
                    counted = tally(self._score, batch, y, window)
                    if not self._score_is_checked:
                        check_by_sample(self._score, batch, y)
                        self._score_is_checked = True
            tallies[probe] = tallies.get(probe, Tally()) + counted
        if not clean:
            return Scored.of(tallies)
        self.latest = Margins.joined(clean)
        return Scored.of(tallies, self.loss(self.latest, window))

    def loss(self, clean: Margins, window: float = 0.0) -> Loss | None:
        """Return what the auxiliary samples lost; the first ones given are the trained model's."""
        if self.trained is None:
            self.trained = clean.copy()
            if self._measure == "auto" and self.reading:
                self._measures_loss = not self.reading.is_unsure(float(clean.right.mean()))
        if not self._measures_loss or self.reading is None:
            return None
        return clean.loss_since(self.trained, self.reading, window)


@contextmanager
def naming(probe: str | None) -> Iterator[None]:
    """Say with which probe something is wrong; the clean samples come first of all."""
    try:
        yield
    except (ModelError, DataError) as error:
        if probe is None:
            raise
        raise type(error)(f"probe {probe!r}: {error}") from error
