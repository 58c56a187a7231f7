"""Files that a page carries in itself, to be downloaded from it."""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from dataclasses import dataclass
from io import StringIO

from flain_core.outcome.layer import LayerOutcome
from flain_core.outcome.outcome import Outcome

from .text import visible

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Download:
    """A file: its name, what it holds in words, and a ``data:`` address with all of it."""

    name: str
    title: str
    address: str

    @classmethod
    def of(cls, name: str, title: str, kind: str, text: str) -> Download:
        """Put text into an address; ``kind`` is its media type."""
        return cls(name, title, f"data:{kind};base64,{b64encode(text.encode()).decode()}")


def outcome_as_json(result: Outcome) -> Download:
    """Return everything but the model."""
    text = json.dumps(result.to_dict(), indent=1)
    return Download.of("purification.json", "Everything, as JSON", "application/json", text)


def steps_as_json(outcome: LayerOutcome, number: int) -> Download:
    """Return every step of a layer's search, and its outcome."""
    text = json.dumps(outcome.to_dict(), indent=1)
    name = f"layer-{number}-steps.json"
    return Download.of(name, "Every step, as JSON", "application/json", text)


def steps_as_csv(outcome: LayerOutcome, number: int) -> Download:
    """Return every step of a layer's search; shares as fractions."""
    probes = list(outcome.steps[0].probes) if outcome.steps else []
    fixed = ("threshold", "neurons_flipped", "clean", "loss", "recomputed", "rounding")
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*fixed, *map(_harmless, probes), "chosen"])
    for step in outcome.steps:
        values = [getattr(step, name) for name in fixed]
        scores = [step.probes[name] for name in probes]
        rows.writerow([*values, *scores, step.threshold == outcome.threshold])
    name = f"layer-{number}-steps.csv"
    return Download.of(name, "Every step, as a table", "text/csv;charset=utf-8", text.getvalue())


def _harmless(name: str) -> str:
    """Return a heading that no spreadsheet takes for a formula."""
    shown = visible(name)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
