"""From the file names of the command line to models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from flain_core import ModelError
from flain_core.registry import built_in

__all__ = ["open_model"]


def open_model(path: Path, architecture: str | None, scores: str | None = None) -> Any:
    """What :func:`flain_core.purify` takes as a model.

    Args:
        path: A file that holds a whole model, or weights.
        architecture: ``module:factory`` for weights.
        scores: Which output of an ONNX or Keras model holds the scores, by name.

    Returns:
        The path itself; or the model in the file, with the weights loaded or the output chosen.

    Raises:
        ModelError: The architecture cannot be imported or built, or there is no output to choose.
        WeightsError: The weights cannot be read or do not fit it.
    """
    if scores is not None:
        return _with_scores(path, scores)
    if architecture is None:
        return path
    return built_in("flain_torch").load(path, _factory(architecture))


def _with_scores(path: Path, scores: str) -> Any:
    if path.suffix == ".onnx":
        return built_in("flain_onnx").load(path, scores=scores)
    if path.suffix in (".keras", ".h5"):
        keras = built_in("flain_keras")
        return keras.open_network(keras.load(path), scores=scores)
    raise ModelError(
        f"--scores chooses among the outputs of an .onnx, .keras or .h5 file; got {path}"
    )


def _factory(architecture: str) -> Callable[[], Any]:
    module_name, colon, name = architecture.partition(":")
    if not (module_name and colon and name):
        raise ModelError(f"expected --architecture package.module:factory; got {architecture!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        # Whatever the user's module does when it is imported.
        raise ModelError(
            f"cannot import {module_name!r} for --architecture ({type(error).__name__}: {error}); "
            "run from the folder that holds it, or install it"
        ) from error
    factory: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(factory):
        raise ModelError(f"{module_name!r} has no function or class {name!r} for --architecture")
    return factory
