"""Opens the models that a user names: files, weights with an architecture, or a factory."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

import flain_core as flain
from flain_core.opening.known_backends import built_in
from flain_core.opening.registry import built, imported

from .options import ModelOptions

_FACTORY = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
_KERAS = (".keras", ".h5")
_REMEDY = "run from the folder that holds it, or install it"


def opened(name: str, options: ModelOptions, *, choose_scores: bool = True) -> Any:
    """Return the path of a file that holds a whole model; or the model itself, built and loaded.

    Args:
        name: A path, or ``module:factory``: a function without arguments that returns a model of
            any framework.
        options: What a file needs beside itself.
        choose_scores: Whether to choose an output, where the options name one.

    Raises:
        ModelError: There is no such model, or an option does not go with it.
        WeightsError: A file cannot be read, or does not fit its architecture.
    """
    scores = options.scores if choose_scores else None
    if is_factory(name):
        return _built(name)
    path = Path(name)
    if options.custom_objects:
        return _keras(path, options.custom_objects, scores)
    if scores is not None:
        return _with_scores(path, scores)
    if options.architecture is None:
        return path
    factory = _imported(options.architecture, "--architecture")
    return built_in("flain_torch").load(path, factory)


def files_among(names: list[str]) -> list[Path]:
    """Return the paths among what was named as models."""
    return [Path(name) for name in names if not is_factory(name)]


def files_of(path: Path) -> list[Path]:
    """Return all files of a model that was written: an ONNX model may have two."""
    if path.suffix != ".onnx":
        return [path]
    found: list[Path] = built_in("flain_onnx").files_of(path)
    return found


def is_factory(name: str) -> bool:
    """Return whether ``module:factory`` was named, and no file."""
    return bool(_FACTORY.fullmatch(name)) and not os.path.exists(name)


def _built(name: str) -> Any:
    _find_here()
    return built(name, what=f"the model {name}", remedy=_REMEDY)


def _imported(name: str, what: str) -> Any:
    if not _FACTORY.fullmatch(name):
        raise typer.BadParameter(f"expected module:name; got {name!r}", param_hint=what)
    _find_here()
    return imported(name, what=what, remedy=_REMEDY)


def _find_here() -> None:
    """Let modules in the current folder be imported."""
    # It may have been removed.
    with suppress(FileNotFoundError):
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)


def _with_scores(path: Path, scores: str) -> Any:
    if path.suffix == ".onnx":
        return built_in("flain_onnx").load(path, scores=scores)
    if path.suffix in _KERAS:
        return _keras(path, [], scores)
    raise flain.ModelError(
        f"--scores chooses among the outputs of an .onnx, .keras or .h5 file; got {path}"
    )


def _keras(path: Path, custom_objects: list[str], scores: str | None) -> Any:
    if path.suffix not in _KERAS:
        raise flain.ModelError(
            f"--custom-objects are for models in .keras and .h5 files; got {path}"
        )
    keras = built_in("flain_keras")
    model = keras.load(path, custom_objects=_custom_objects(custom_objects))
    return model if scores is None else keras.open_network(model, scores=scores)


def _custom_objects(names: list[str]) -> dict[str, Any]:
    """Import classes and functions by their own names, or dicts of some."""
    found: dict[str, Any] = {}
    for name in names:
        value = _imported(name, "--custom-objects")
        found |= value if isinstance(value, Mapping) else {name.partition(":")[2]: value}
    return found
