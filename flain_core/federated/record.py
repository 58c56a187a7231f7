"""Keeps what each holder said, so that what it says later can be held against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flain_core.errors import DataError
from flain_core.score import Scored, Tally

from .checks import check_against_trained
from .messages import Answer, Question, Task

__all__ = ["Record"]


@dataclass
class Record:
    """What holders said of themselves and of the trained model.

    Attributes:
        samples: How many samples each has.
        values: How many values its statistics are of.
        trained: What the trained model scores with each, from a layer on and in full: a cut that
            is not faithful must not make an honest holder look like a liar.
    """

    samples: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    trained: dict[tuple[str, Task], Scored] = field(default_factory=dict)

    def check(self, name: str, answer: Answer, question: Question) -> None:
        """Raise :class:`DataError` if an answer does not go with what the holder said before."""
        if answer.statistics is not None:
            self.values[name] = answer.statistics.count
        for scored in answer.scored:
            count = self.samples.setdefault(name, scored.clean.count)
            if scored.clean.count != count:
                raise DataError(f"it had {count} samples before, and {scored.clean.count} now")
            values = self.values.get(name, count)
            if values % count:
                raise DataError(f"it has {count} samples, and statistics of {values} values")
        if question.of_trained:
            self.trained[name, question.task] = answer.scored[0]
        trained = self.trained.get((name, question.task))
        if trained is not None:
            for scored in answer.scored:
                check_against_trained(scored, trained)

    def trained_tallies(self, names: Iterable[str], task: Task) -> list[Tally] | None:
        """Return what the trained model scores with each holder; None if one never said so."""
        tallies: list[Tally] = []
        other: Task = "in full" if task == "candidates" else "candidates"
        for name in names:
            scored = self.trained.get((name, task)) or self.trained.get((name, other))
            if scored is None:
                return None
            tallies.append(scored.clean)
        return tallies
