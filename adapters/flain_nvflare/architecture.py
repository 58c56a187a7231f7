"""The model that the server's arrays belong to."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from flain_core import ModelError

__all__ = ["architecture"]

_FACTORY = re.compile(r"[\w.]+:[\w.]+")


def architecture(model: Any, persistor: Any, folder: Path) -> Any:
    """What :func:`flain_core.purify_arrays` takes as the model.

    Args:
        model: ``"module:factory"``, the path of a file that holds a whole model, or a model; None
            for the one that the persistor holds, as those of PyTorch and TensorFlow do.
        persistor: The job's persistor.
        folder: What a relative path starts from.

    Raises:
        ModelError: There is none, or it cannot be imported or built.
    """
    if model is None:
        return _held_by(persistor)
    if not isinstance(model, str):
        return model
    if _FACTORY.fullmatch(model):
        return _built(model)
    return folder / model


def _held_by(persistor: Any) -> Any:
    model = getattr(persistor, "model", None)
    if model is None or isinstance(model, (str, dict, list)):
        raise ModelError(
            f"the persistor ({type(persistor).__name__}) holds no model; say which architecture "
            'the arrays belong to: Purify(model="package.module:factory"), or the path of a file '
            "such as flain_numpy.save() writes"
        )
    return model


def _built(name: str) -> Any:
    try:
        return _factory(name)()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the architecture {name!r} could not be built without arguments "
            f"({type(error).__name__}: {error})"
        ) from error


def _factory(name: str) -> Callable[[], Any]:
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        # Whatever the user's module does when it is imported.
        raise ModelError(
            f"cannot import {module_name!r} for model={name!r} ({type(error).__name__}: {error}); "
            "install it on the server, or send it with the job"
        ) from error
    factory: Callable[[], Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        raise ModelError(f"{module_name!r} has no function or class {attribute!r} for model=")
    return factory
