"""Functions that users name as ``"module:function"``, on a command line or in a job."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .errors import ModelError


def imported(name: str, *, what: str, remedy: str) -> Callable[[], Any]:
    """Import the function or class that builds a model.

    Args:
        name: ``"package.module:factory"``; the factory takes no arguments.
        what: The option that ``name`` was given to, for messages.
        remedy: What to do if the module cannot be imported, for the message.

    Raises:
        ModelError: The name has another form, the module cannot be imported, or it has no such
            function or class.

    >>> imported("collections:Counter", what="--architecture", remedy="install it")()
    Counter()
    >>> imported("no_such_module:Net", what="--architecture", remedy="install it")
    Traceback (most recent call last):
        ...
    flain_core.errors.ModelError: cannot import 'no_such_module' for --architecture
    (ModuleNotFoundError: No module named 'no_such_module'); install it
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ModelError(f"expected {what} to be package.module:factory; got {name!r}")
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        # Importing a module runs whatever its author wrote there.
        raise ModelError(
            f"cannot import {module_name!r} for {what} ({type(error).__name__}: {error}); {remedy}"
        ) from error
    factory: Callable[[], Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        raise ModelError(f"{module_name!r} has no function or class {attribute!r} for {what}")
    return factory
