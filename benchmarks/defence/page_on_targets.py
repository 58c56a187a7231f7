"""The page "Other targets": whether it matters which class the attacker wants."""

from __future__ import annotations

from collections.abc import Iterator

from . import summary, tables
from .page import answer, attacks, end, missing, told
from .stored import Stored


def page_on_targets(stored: Stored) -> str:
    """The page as Markdown."""
    parts = [
        *_beginning(stored),
        *answer(stored),
        *_each_target(stored),
        *attacks(stored),
        *told(stored),
        *end(stored),
    ]
    return "\n\n".join(parts) + "\n"


def _beginning(stored: Stored) -> Iterator[str]:
    yield "# Other targets"
    if (note := missing(stored)) is not None:
        yield note
    yield (
        "How much of an update is quiet on clean data differs between classes without an attack "
        "too: more of it is quiet for a class that is hard to learn, as class 5 of CIFAR-10, the "
        "dogs. So a defence may seem to find the class that an attacker wants, and find a hard "
        "one. Here attackers want other classes: `t1` in the name of a row is class 1, and rows "
        "without one have class 5, as everywhere else in these pages."
    )
    yield (
        f"`python -m benchmarks.defence render --profile {stored.profile.name}` writes this page "
        f"from the results of the `{stored.profile.name}` matrix; nobody types a figure. [How well "
        "does it work](how-well.md) compares other defences, on more models."
    )


def _each_target(stored: Stored) -> Iterator[str]:
    yield "## Each target"
    yield f"flain with {summary.MOST} samples, on the models of all attacks on a class that took."
    yield tables.targets(stored)
