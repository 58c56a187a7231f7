"""Opens models by the file names of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from flain_core import ModelError
from flain_core.factory import imported
from flain_core.registry import built_in


def open_model(path: Path, architecture: str | None, scores: str | None = None) -> Any:
    """Open a file as :func:`flain_core.purify` takes a model.

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
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    remedy = "run from the folder that holds it, or install it"
    factory = imported(architecture, what="--architecture", remedy=remedy)
    return built_in("flain_torch").load(path, factory)


def _with_scores(path: Path, scores: str) -> Any:
    if path.suffix == ".onnx":
        return built_in("flain_onnx").load(path, scores=scores)
    if path.suffix in (".keras", ".h5"):
        keras = built_in("flain_keras")
        return keras.open_network(keras.load(path), scores=scores)
    raise ModelError(
        f"--scores chooses among the outputs of an .onnx, .keras or .h5 file; got {path}"
    )
