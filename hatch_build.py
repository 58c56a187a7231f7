"""The README as a package index shows it: with links that lead to the repository.

In the repository the links are relative, so that they lead to the version that one reads.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def absolute(text: str, repository: str) -> str:
    """Return Markdown with each relative link leading into the repository's main branch.

    >>> absolute("[start](docs/start.md) ![two dots](a.png)", "https://host/flain")
    '[start](https://host/flain/blob/main/docs/start.md) ![two dots](https://host/flain/raw/main/a.png)'
    """

    def link(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({repository}/{kind}/main/{target})"

    return _RELATIVE.sub(link, text)


class CustomMetadataHook(MetadataHookInterface):
    """Puts the README into the metadata of a wheel or an sdist."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata["urls"]["Repository"]
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, repository),
        }
