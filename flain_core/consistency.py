"""Whether holders stand by what they said that a candidate scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import DataError
from .question import Answer
from .score import Tally

__all__ = ["Record"]

_ROUNDING = 1e-9


class Record:
    """What holders said about the candidates of a search, by how many neurons these flip.

    Who says one thing while the search runs and another when the candidate is run in full is
    faulty or lies, and could otherwise keep any purified model from being confirmed.

    Example:
        >>> from flain_core.score import Scored
        >>> def says(right):
        ...     return Answer(scored=(Scored(Tally(right, 10)),))
        >>> record = Record()
        >>> record.keep([3], {"one": says(9), "other": says(9)}, exact=True)
        >>> record.contradictions(3, {"one": says(9), "other": says(1)})
        {'other': DataError('it said that a candidate scores 9, and then 1')}
    """

    def __init__(self) -> None:
        self._said: dict[int, dict[str, Tally]] = {}

    def keep(self, ends: Sequence[int], answers: Mapping[str, Answer], *, exact: bool) -> None:
        """Keep what was said.

        Args:
            ends: The candidates.
            answers: By name of the holder, a score of each candidate.
            exact: Whether the candidates were run in full; then rounding is no excuse.
        """
        for name, answer in answers.items():
            for end, scored in zip(ends, answer.scored, strict=True):
                clean = scored.clean
                kept = Tally(clean.total, clean.count, 0 if exact else clean.uncertain)
                self._said.setdefault(end, {})[name] = kept

    def contradictions(self, end: int, answers: Mapping[str, Answer]) -> dict[str, DataError]:
        """Who now says something else of a candidate that was run in full, by name.

        Args:
            end: The candidate.
            answers: By name of the holder, what it scores.
        """
        found: dict[str, DataError] = {}
        for name, said in self._said.get(end, {}).items():
            total = answers[name].scored[0].clean.total
            if abs(total - said.total) > said.uncertain + _ROUNDING * max(abs(said.total), 1):
                found[name] = DataError(
                    f"it said that a candidate scores {said.total}, and then {total}"
                )
        return found
