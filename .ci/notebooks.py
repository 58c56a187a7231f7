"""Runs the notebooks while the site is built, and makes pages of them: a hook of MkDocs.

A cell that fails, or that warns, fails the build. The pages need nothing but the theme: no scripts
and no styles of Jupyter.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

_LINK = re.compile(r"(\((?:\.\./)*notebooks/[\w-]+)\.ipynb\)")
_SHELL = "%%bash\n"
_MINUTES = 10

# Cells of shell find the commands of this environment, also where nobody activated it.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


def executed(path: Path) -> Any:
    """Run a notebook in a process of its own, and return it with its outputs.

    Raises:
        PluginError: A cell fails, or writes to stderr.
    """
    read: Any = nbformat.read  # has no types
    notebook = read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=60 * _MINUTES, resources={"metadata": {"path": str(path.parent)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise PluginError(f"{path.name}: {error}") from error
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise PluginError(f"{path.name}: a cell wrote to stderr: {output.text}")
    return notebook


def page(notebook: Any) -> tuple[str, dict[str, bytes]]:
    """Return a notebook with outputs as Markdown, and its pictures by name."""
    parts, pictures = [], {}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        shell = cell.source.startswith(_SHELL)
        source = cell.source.removeprefix(_SHELL)
        parts.append(f"```{'bash' if shell else 'python'}\n{source}\n```")
        printed = "".join(each.text for each in cell.outputs if each.output_type == "stream")
        results = [each.data for each in cell.outputs if each.output_type != "stream"]
        for data in results:
            if "image/png" in data:
                name = f"{number}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell above draws]({name})")
            else:
                printed += data["text/plain"] + "\n"
        if printed.strip():
            parts.append(f"```text\n{printed.strip(chr(10))}\n```")
    return "\n\n".join(parts) + "\n", pictures


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook; the notebook itself can be downloaded."""
    for file in list(files):
        if not file.src_uri.endswith(".ipynb"):
            continue
        text, pictures = page(executed(Path(str(file.abs_src_path))))
        base = file.src_uri.removesuffix(".ipynb")
        name = Path(base).name
        download = f"\n[Download this notebook]({name}.ipynb), which was run to make this page.\n"
        for picture, content in pictures.items():
            text = text.replace(f"({picture})", f"({name}-{picture})")
            files.append(File.generated(config, f"{base}-{picture}", content=content))
        files.append(File.generated(config, f"{base}.md", content=text + download))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to a notebook, which work in the repository, lead to its page."""
    return _LINK.sub(r"\1.md)", markdown)
