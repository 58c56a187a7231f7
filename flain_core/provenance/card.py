"""A section for a model card, in Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict

from flain_core.outcome.outcome import Outcome
from flain_core.outcome.verdict import reason_for

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def card(result: Outcome) -> str:
    """Return what was done to a model, and what it is worth, as Markdown."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Outcome) -> Iterator[str]:
    version = result.versions.get("flain", "unknown")
    yield "## Purification"
    yield ""
    yield (
        f"A backdoor defence after training was applied: FLAIN by `flain` {_plain(version)}. It "
        "flips the weight update of layers where clean data hardly uses it."
    )
    yield ""
    yield f"- **Verdict:** {_plain(reason_for(result.layers))}"
    yield f"- **Promise:** {_plain(str(result.promise)) if result.promise else 'none'}"
    yield f"- **Model before:** SHA-256 of its tensors `{result.unpurified or 'unknown'}`"
    yield ""
    yield "| | before | after |"
    yield "|---|---:|---:|"
    yield f"| clean samples | {result.before.clean:.4f} | {result.after.clean:.4f} |"
    for name, before in result.before.probes.items():
        yield f"| {_plain(name)} | {before:.4f} | {result.after.probes[name]:.4f} |"
    yield ""
    yield "| layer | flipped | share of its update | stopped by |"
    yield "|---|---|---:|---|"
    for layer in result.layers:
        yield f"| {_plain(layer.name)} | {layer.flip} | {layer.share:.1%} | {layer.stop_reason} |"
    yield ""
    yield "### Settings and versions"
    yield ""
    yield "```json"
    about = {"settings": asdict(result.settings), "versions": dict(result.versions)}
    yield json.dumps(about, indent=1, allow_nan=False)
    yield "```"
    if result.files:
        yield ""
        yield "| file read | SHA-256 |"
        yield "|---|---|"
        for path, digest in result.files.items():
            yield f"| {_plain(path)} | `{digest}` |"
    yield ""
    yield "### Limits"
    yield ""
    yield (
        "- Scores are those of the samples that steered the search, and of the probes given; the "
        "promise is about new samples drawn like the auxiliary ones, and about no attack."
    )
    yield (
        "- That a backdoor is gone is shown by a probe with its trigger alone. Backdoors in other "
        "layers, or where clean data is active, stay."
    )
    yield "- Purifying this model again with the same initial model would undo it."
    for note in result.notes:
        if not note.startswith(("promise: ", f"{result.verdict}: ")):
            yield f"- {_plain(note)}"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return _MARKUP.sub(r"\\\1", _NO_TEXT.sub(" ", text))
