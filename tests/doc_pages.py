"""The pages of the documentation, and the code that is shown on them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages that show a file of the repository are tested where the file is.
_INCLUDES = "--8<--"

_FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What stands between two fences."""

    language: str
    title: str
    code: str


def every() -> list[str]:
    """The README and each page, by its path in the repository."""
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))]


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in some languages, in order; of all languages if none is given."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for indent, language, options, code in _FENCE.findall(text):
        title = re.search(r'title="(.*?)"', options)
        lines = (line.removeprefix(indent) for line in code.splitlines(keepends=True))
        found.append(Block(language, title[1] if title else "", "".join(lines)))
    return [each for each in found if not languages or each.language in languages]


def shown(page: str) -> list[Block]:
    """The Python code that a page holds itself."""
    return [each for each in blocks(page, "python") if _INCLUDES not in each.code]


def commands(page: str) -> list[list[str]]:
    """The commands of a page, each in words."""
    lines = "".join(each.code for each in blocks(page, "console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]
