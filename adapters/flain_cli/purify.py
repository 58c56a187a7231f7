"""``flain purify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import display
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


def purify(
    final: str,
    initial: Annotated[
        str, typer.Option(metavar="MODEL", help="The model that training started from.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where the purified model goes.")
    ],
    samples: SampleOptions,
    files: ReportOptions,
    models: ModelOptions,
    search: SettingOptions,
    gates: GateOptions,
    talk: TalkOptions,
    debug: DebugOptions,  # noqa: ARG001
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything up to the first candidate; search nothing, write nothing.",
        ),
    ] = False,
) -> None:
    """Purify a model with the help of a few hundred clean samples.

    FINAL is the file of the trained global model: .npz, .onnx, .keras, .h5, or weights.
    For both models MODULE:FACTORY will do too: a function that returns one.
    """
    plan = Plan(
        final=final,
        initial=initial,
        output=output,
        models=models,
        samples=samples,
        search=search,
        gates=gates,
        files=files,
        talk=talk,
    )
    if dry_run:
        show_plan(plan)
    else:
        finish(plan, plan.run())


def show_plan(plan: Plan) -> None:
    """Show what would be done, after everything but the search was tried."""
    candidates = plan.dry_run()
    targets = [str(target) for target in plan.targets]
    if plan.talk.json:
        told: dict[str, Any] = {
            "dry_run": True,
            "exit_code": 0,
            "layers": plan.layers,
            "candidates_at_most": candidates,
            "gates": [str(gate) for gate in plan.required],
            "would_write": targets,
        }
        display.as_json(told)
    elif plan.talk.in_words:
        display.say(f"would purify {', '.join(plan.layers)}")
        display.say(f"would try at most {candidates} candidates in {plan.layers[0]}")
        for gate in plan.required:
            display.say(f"would require {gate}")
        for target in targets:
            display.say(f"would write {target}")
        display.say("dry run: nothing was searched, nothing was written")
