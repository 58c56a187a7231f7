"""``flain audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from .finish import finish
from .options import (
    DebugOptions,
    GateOptions,
    ModelOptions,
    ReportOptions,
    SampleOptions,
    TalkOptions,
)
from .search import Plan
from .setting_options import SettingOptions


def audit(
    final: str,
    initial: Annotated[
        str, typer.Option(metavar="MODEL", help="The model that training started from.")
    ],
    samples: SampleOptions,
    files: ReportOptions,
    models: ModelOptions,
    search: SettingOptions,
    gates: GateOptions,
    talk: TalkOptions,
    debug: DebugOptions,  # noqa: ARG001
) -> None:
    """Show what purification would do to a model, and write nothing but the report.

    FINAL, the options, the search and the exit codes are those of flain purify.
    Whether there is a backdoor, only a probe with its trigger shows.
    """
    plan = Plan(
        final=final,
        initial=initial,
        output=None,
        models=models,
        samples=samples,
        search=search,
        gates=gates,
        files=files,
        talk=talk,
    )
    finish(plan, plan.run())
