"""The model that the server's arrays belong to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flain_core import ModelError
from flain_core.factory import imported

_FACTORY = re.compile(r"[\w.]+:[\w.]+")


def architecture(model: Any, persistor: Any, folder: Path) -> Any:
    """Return the model that :func:`flain_core.purify_arrays` takes.

    Args:
        model: ``"module:factory"``, the path of a file that holds a whole model, or a model; None
            for the one that the persistor holds, as those of PyTorch and TensorFlow do.
        persistor: The job's persistor.
        folder: The folder that a relative path starts from.

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
    factory = imported(
        name, what="model=", remedy="install it on the server, or send it with the job"
    )
    try:
        return factory()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the architecture {name!r} could not be built without arguments "
            f"({type(error).__name__}: {error})"
        ) from error
