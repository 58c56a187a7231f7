"""From the file names of the command line to models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from flain_core import ModelError

__all__ = ["open_model"]


def open_model(path: Path, architecture: str | None) -> Any:
    """What :func:`flain_core.purify` takes as a model.

    Args:
        path: A file that holds a whole model, or weights.
        architecture: ``module:factory`` for weights.

    Returns:
        The path itself, or the module with the weights loaded.

    Raises:
        ModelError: The architecture cannot be imported or built.
        WeightsError: The weights cannot be read or do not fit it.
    """
    if architecture is None:
        return path
    try:
        import flain_torch
    except ImportError as error:
        raise ModelError(
            f"weights with an architecture need PyTorch, which cannot be imported ({error}); "
            "pip install 'flain[torch]'"
        ) from error
    return flain_torch.load(path, _factory(architecture))


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
