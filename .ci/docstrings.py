"""Makes docstrings readable on the site: examples become code, and roles become links.

The docstrings are written for ``help()`` and for doctest; mkdocstrings reads Markdown.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(~?)([\w.]+)`")
_EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:^(?! *$).*\n?)*", re.MULTILINE)


def readable(text: str) -> str:
    """Return a docstring as Markdown.

    >>> readable("See :class:`~flain_core.Network`.")
    'See <autoref optional identifier="flain_core.Network"><code>Network</code></autoref>.'
    """
    return _EXAMPLE.sub(_fenced, _ROLE.sub(_link, text))


def _fenced(example: re.Match[str]) -> str:
    indent = example[1]
    lines = example[0].rstrip("\n").replace("<BLANKLINE>", "")
    return f"{indent}```pycon\n{lines}\n{indent}```\n"


def _link(role: re.Match[str]) -> str:
    short, target = role.groups()
    shown = target.rpartition(".")[2] if short else target
    # Names without a module are those that users import.
    identifier = target if target.startswith("flain") else f"flain_core.{target}"
    return f'<autoref optional identifier="{identifier}"><code>{shown}</code></autoref>'


class Readable(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, a class, a function or an attribute."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
