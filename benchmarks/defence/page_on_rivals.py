"""The page "Other defences": flain beside its rivals, on the same models and samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from . import tables_of_samples
from .page import depth, end, missing, rivals
from .stored import Stored


def page_on_rivals(stored: Stored, figures: Collection[str]) -> str:
    """The page as Markdown; ``figures`` are the names of those that were drawn."""
    parts = [
        *_beginning(stored),
        *rivals(stored, figures),
        *_shifted(stored),
        *depth(stored, figures),
        *end(stored),
    ]
    return "\n\n".join(parts) + "\n"


def _beginning(stored: Stored) -> Iterator[str]:
    yield "# Other defences on the same models"
    if (note := missing(stored)) is not None:
        yield note
    yield (
        f"`python -m benchmarks.defence render --profile {stored.profile.name}` writes this page "
        f"from the results of the `{stored.profile.name}` matrix; nobody types a figure. [How well "
        "does it work](how-well.md) has flain on these models and on many more."
    )
    if len({outcome.content["machine"] for outcome in stored.outcomes.values()}) > 1:
        yield "CPU seconds are of machines of different speed."


def _shifted(stored: Stored) -> Iterator[str]:
    yield "## Shifted and poisoned samples"
    yield "As on [the other page](how-well.md#shifted-and-poisoned-ones), beside fine-tuning."
    yield tables_of_samples.shifted(stored)
