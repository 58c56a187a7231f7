"""Renders the report of a purification as one page of HTML, or as a part of a notebook's page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from secrets import token_hex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flain_core.outcome.layer import LayerOutcome
from flain_core.outcome.outcome import Outcome

from . import words
from .chart import Chart, Table
from .downloads import Download, outcome_as_json, steps_as_csv, steps_as_json
from .facts import factor_of
from .layer_charts import layer_charts, norms_table, steps_table
from .score_charts import classes_chart, classes_table, scores_chart, scores_table
from .text import percent, visible

_MEANINGS = {
    "measure": "What may be lost: the probability of the true class, or the score",
    "tolerance": "How much of it may be lost; none given means that the model decides",
    "flip": "What is flipped: directions of the input space, or whole input neurons",
    "promise": "Largest share of new samples that may become newly wrong",
    "confidence": "Probability that the promise is kept",
    "held_back": "Share of the samples that had no part in the search",
    "crossing": "Whether the candidate before the loss became too large is taken, or the one after",
    "factor": "How many times an update is taken away: 1 takes it back, 2 turns it round",
    "thresholds": "Which thresholds are tried; none given means all that make a difference",
    "statistic": "How the activation of an input neuron is measured",
    "match_norm": "Whether the layer is rescaled to its former norm afterwards",
}


def render(result: Outcome) -> str:
    """Return the report as a page: a whole file that loads nothing from elsewhere."""
    return _rendered("page.html.j2", result, "f")


def render_fragment(result: Outcome) -> str:
    """Return the report as a part of another page, with styles that leave the rest of it alone."""
    return _rendered("fragment.html.j2", result, f"f{token_hex(4)}")


@dataclass(frozen=True)
class _LayerPart:
    """What the page says of one layer."""

    number: int
    outcome: LayerOutcome
    words: list[str]
    charts: list[Chart]
    norms: Table | None
    steps: Table | None
    downloads: list[Download]


def _rendered(template: str, result: Outcome, prefix: str) -> str:
    script = _resource("report.js")
    content = {
        "headline": words.headline(result),
        "meaning": list(words.what_it_means(result)),
        "intro": words.intro(result),
        "promise": list(words.promise_words(result)),
        "scores": scores_table(result),
        "scores_chart": scores_chart(result, prefix),
        "classes": classes_table(result) if result.by_class else None,
        "classes_chart": classes_chart(result, prefix) if result.by_class else None,
        "layers": [
            _layer_part(result, outcome, place, f"{prefix}-l{place}")
            for place, outcome in enumerate(result.layers, 1)
        ],
        "settings": _settings(result),
        "notes": [note for note in result.notes if note not in result.warnings],
        "versions": Table("Versions", ("Software", "Version"), [*result.versions.items()], False),
        "files": Table("Files that were read", ("File", "SHA-256"), [*result.files.items()], False),
        "everything": outcome_as_json(result),
        "percent": percent,
        "duration": words.duration(result.seconds),
    }
    return (
        _environment()
        .get_template(template)
        .render(
            result=result,
            prefix=prefix,
            style=Markup(_resource("report.css")),  # noqa: S704
            script=Markup(script),  # noqa: S704
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
            **content,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flain_report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Write out what is invisible in text; leave what is HTML already."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _resource(name: str) -> str:
    return resources.files("flain_report").joinpath("templates", name).read_text(encoding="utf-8")


def _layer_part(result: Outcome, outcome: LayerOutcome, place: int, prefix: str) -> _LayerPart:
    searched = bool(outcome.steps)
    return _LayerPart(
        number=place,
        outcome=outcome,
        words=[*words.layer_words(result, outcome)],
        charts=[*layer_charts(result, outcome, prefix)],
        norms=norms_table(result, outcome),
        steps=steps_table(result, outcome) if searched else None,
        downloads=[steps_as_csv(outcome, place), steps_as_json(outcome, place)] if searched else [],
    )


def _settings(result: Outcome) -> Table:
    rows = []
    for name, value in asdict(result.settings).items():
        shown = "not given" if value is None else str(value)
        if name == "factor" and value is None:
            factors = {factor_of(result, each) for each in result.layers if each.flip != "none"}
            shown = " and ".join(f"{each:g}" for each in sorted(factors)) or shown
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {part}" for key, part in value.items())
        rows.append((name, shown, _MEANINGS.get(name, "")))
    return Table("Settings", ("Setting", "Value", "What it says"), rows, numeric=False)
