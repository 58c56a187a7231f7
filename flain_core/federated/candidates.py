"""Has holders of samples score candidates, and confronts those that contradict themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flain_core.errors import DataError
from flain_core.flipping import Flipping
from flain_core.network import Network
from flain_core.score import Scored

from .checks import contradiction
from .messages import ModelState, Question, Task

if TYPE_CHECKING:
    from .coordinator import Coordinator

__all__ = ["CoordinatedCandidates"]

_LOOKAHEAD_IN_FULL = 16


@dataclass(frozen=True, eq=False)
class CoordinatedCandidates:
    """Implements :class:`~flain_core.sample_source.Candidates`.

    Attributes:
        coordinator: What asks the holders and merges their answers.
        state: The model, and how its layer is being flipped.
        flipping: What each candidate flips.
        task: Whether candidates are scored from the layer on or in full.
        said: What each holder said of each candidate.
    """

    coordinator: Coordinator
    state: ModelState
    flipping: Flipping
    task: Task
    said: dict[tuple[int, str], Scored] = field(default_factory=dict)

    @property
    def lookahead(self) -> int:
        """Number that the holders take at once, as far as candidates are cheap."""
        lookahead = self.coordinator.lookahead
        return min(lookahead, _LOOKAHEAD_IN_FULL) if self.task == "in full" else lookahead

    def advance(self, n_flipped: Sequence[int]) -> list[Scored]:
        """Ask what each candidate scores, and merge the answers."""
        answers = self.coordinator.answers(Question(self.task, self.state, tuple(n_flipped)))
        for name, answer in answers.items():
            for number, scored in zip(n_flipped, answer.scored, strict=True):
                self._keep(number, name, scored, in_full=self.task == "in full")
        return self.coordinator.merged(answers, self.task)

    def score_in_full(self, n_flipped: int) -> Scored:
        """Score the whole network with really flipped weights, on the clean samples."""
        return self._in_full(self.flipping.candidate(n_flipped), n_flipped, probes=False)

    def as_written(self, n_flipped: int) -> None:
        """Say that the written candidate scores what the search said."""

    def confirm(self, network: Network, n_flipped: int) -> Scored:
        """Score the candidate as it was written into ``network``, run in full."""
        return self._in_full(network, n_flipped, probes=True)

    def _in_full(self, network: Network, n_flipped: int, *, probes: bool) -> Scored:
        answers = self.coordinator.in_full(network, probes=probes)
        errors: dict[str, DataError] = {}
        for name, answer in answers.items():
            now = answer.scored[0]
            said = self.said.get((n_flipped, name), now)
            if error := contradiction(said, now):
                errors[name] = error
            self._keep(n_flipped, name, now, in_full=True)
        self.coordinator.confront(errors)
        return self.coordinator.merged(answers, "in full", probes=probes)[0]

    def _keep(self, n_flipped: int, name: str, said: Scored, *, in_full: bool) -> None:
        # Rounding is no excuse where the candidate was run in full.
        self.said[n_flipped, name] = said.as_exact() if in_full else said
