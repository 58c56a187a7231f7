"""The search that ``purify`` and ``audit`` share: check everything first, then search and judge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

import flain_core as flain
from flain_core.layer_choice import chosen_layers
from flain_core.opening.registry import check_format, open_network
from flain_core.reporting.presenting import FORMATS, check_report
from flain_core.storage.files import check_no_input, check_writable, hashes, same_file

from .display import only_what_was_asked_for
from .exit_codes import ExitCode
from .gates import CheckedGate, Gate, checked
from .models import files_among, opened
from .options import (
    GateOptions,
    ModelOptions,
    ReportOptions,
    SampleOptions,
    TalkOptions,
)
from .progress import searching
from .setting_options import SettingOptions


@dataclass(frozen=True)
class Judged:
    """A result, and what its gates say."""

    result: flain.Purification
    gates: Sequence[CheckedGate]

    @property
    def passes(self) -> bool:
        """Whether every gate is met."""
        return all(gate.met for gate in self.gates)

    @property
    def exit_code(self) -> ExitCode:
        """What the command returns, if all files can be written."""
        if not self.passes:
            return ExitCode.GATE
        return ExitCode.DONE if self.result.verdict == "flipped" else ExitCode.NOT_FLIPPED

    @property
    def why_not_written(self) -> str | None:
        """Why the purified model is not to be written; None if it is."""
        if not self.passes:
            return "a gate is not met"
        if self.result.verdict == "not flipped":
            return "nothing was flipped, so the model is as it was"
        return None


@dataclass(kw_only=True)
class Plan:
    """A search that was checked as far as that goes without searching.

    ``output`` is None where no model is to be written.

    Raises:
        BadParameter: Options do not go together.
        FlainError: A model cannot be opened, or a file cannot be written.
    """

    final: str
    initial: str
    output: Path | None
    models: ModelOptions
    samples: SampleOptions
    search: SettingOptions
    gates: GateOptions
    files: ReportOptions
    talk: TalkOptions

    def __post_init__(self) -> None:
        self.settings = self.search.settings()
        self.probes = self.samples.probes()
        self.required: list[Gate] = self.gates.gates(self.probes)
        self._check_names()
        with only_what_was_asked_for(json=self.talk.json, quiet=self.talk.quiet):
            self._model = opened(self.final, self.models)
            self._initial = opened(self.initial, self.models, choose_scores=False)
            if self.output is not None:
                check_writable(self.output, overwrite=self.files.overwrite)
            if self.files.report is not None:
                check_report(self.files.report, overwrite=self.files.overwrite)
            network = open_network(self._model)
            if self.output is not None:
                check_format(network.native, self.output)
            self.layers = chosen_layers(network, self.search.layers)

    @property
    def targets(self) -> list[Path]:
        """Files to write."""
        return [each for each in (self.output, self.files.report) if each is not None]

    def dry_run(self) -> int:
        """Do everything up to the first candidate, and return how many there are at most.

        Raises:
            FlainError: The search could not begin.
        """
        try:
            self._purify(_stop)
        except _FirstCandidateError as reached:
            return reached.candidates
        return 0

    def run(self) -> Judged:
        """Search, and compare the result with the gates.

        Raises:
            FlainError: The search could not be done.
        """
        # Before the search: nothing that goes wrong with a file afterwards shall lose the result.
        files = hashes(self._inputs)
        with searching(quiet=self.talk.quiet) as on_progress:
            result = self._purify(on_progress)
        return Judged(replace(result, files=files), checked(self.required, result))

    def _purify(self, on_progress: Any) -> flain.Purification:
        samples, talk = self.samples, self.talk
        with only_what_was_asked_for(json=talk.json, quiet=talk.quiet):
            return flain.purify(
                self._model,
                initial=self._initial,
                data=samples.data,
                layers=self.search.layers,
                settings=self.settings,
                probes=self.probes,
                outputs=samples.outputs,
                progress=on_progress,
                batch_size=samples.batch_size,
                seed=samples.seed,
                again=self.search.again,
            )

    @property
    def _inputs(self) -> list[Path]:
        models = files_among([self.final, self.initial])
        return [*models, self.samples.data, *self.probes.values()]

    def _check_names(self) -> None:
        data = self.samples.data
        # Where the current folder was removed, the check for writing says so.
        with suppress(FileNotFoundError):
            if len({os.path.realpath(each) for each in self.targets}) < len(self.targets):
                raise typer.BadParameter(
                    "is where the model goes; choose another name", param_hint="--report"
                )
            for name in self.samples.held_out:
                if same_file(self.probes[name], data):
                    raise typer.BadParameter(
                        f"{name} is the file of --data, whose samples steer the search; hold out "
                        "others",
                        param_hint="--holdout",
                    )
            for target in self.targets:
                check_no_input(target, self._inputs)
        report = self.files.report
        if report is not None and report.suffix.lower() not in FORMATS:
            raise typer.BadParameter(
                f"expected a name that ends in .html or .json; got {str(report)!r}",
                param_hint="--report",
            )


class _FirstCandidateError(Exception):
    """Ends a dry run."""

    def __init__(self, candidates: int) -> None:
        super().__init__()
        self.candidates = candidates


def _stop(progress: flain.Progress) -> None:
    raise _FirstCandidateError(progress.events)
