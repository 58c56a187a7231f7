"""Scripts of the repository that pages link to become files of the site: a hook of MkDocs.

In the repository the links are relative, so that they lead to the version that one reads.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_LINK = re.compile(r"\]\(\.\./(?P<up>(?:\.\./)*)(?P<script>examples/\w+\.py)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each script, so that a link to one that is missing fails the build."""
    root = Path(config.docs_dir).parent
    for script in sorted((root / "examples").glob("*.py")):
        name = script.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(script)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links into the repository lead to the site's copies, which lie one folder nearer.

    >>> on_page_markdown("[a](../../examples/b.py), [c](../examples/d.py)")
    '[a](../examples/b.py), [c](examples/d.py)'
    """
    return _LINK.sub(r"](\g<up>\g<script>)", markdown)
