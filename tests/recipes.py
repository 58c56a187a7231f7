"""The code in docs/recipes, so that tests can run it as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"


def page(name: str) -> str:
    return (RECIPES / f"{name}.md").read_text(encoding="utf-8")


def code(name: str, title: str | None = None) -> str:
    """The Python block of a page that has the title, or the only one."""
    blocks = re.findall(r'^```python(?: title="(.*?)")?\n(.*?)^```$', page(name), re.M | re.S)
    (found,) = [block for named, block in blocks if title is None or named == title]
    return found


def console(name: str) -> str:
    """The command that the only console block of a page shows."""
    (found,) = re.findall(r"^```console\n\$ (.*?)^```$", page(name), re.M | re.S)
    return found.replace("\\\n", " ")
