"""Finds the backend that opens a model or a file, without importing any framework.

Users may also name the function that builds a model, as ``"module:function"``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from inspect import signature
from typing import Any, cast

from flain_core.errors import ModelError, OutputError
from flain_core.network import MEMBERS, Array, Network, is_network
from flain_core.provenance.purified_before import carried

from .known_backends import Backend, backends, third_party


def open_network(model: Any, *, like: Any = None) -> Network:
    """Open a model, or a file that holds one.

    Args:
        model: A framework's model, a path, or any object with the methods of
            :class:`~flain_core.Network`.
        like: A model of the same architecture, or its path, for backends that can read bare weights
            with it, such as a PyTorch state dict, or that name layers after it, as ONNX and Keras.
            If the model is None, it is opened with its adapter off.

    Raises:
        ModelError: No backend knows the model, or its framework is not installed.
    """
    if isinstance(model, type):
        raise ModelError(
            f"expected a model; got the class {model.__qualname__}: give an instance, with its "
            "weights loaded"
        )
    # Before any work: a broken backend of somebody else is warned of.
    third_party()
    if model is None and like is not None:
        return _open_adapter_off(architecture(like))
    if is_network(model):
        return cast("Network", model)
    if isinstance(model, (str, os.PathLike)):
        return _open_file(model, like)
    backend = _backend_of(model) or (None if like is None else _backend_of(like))
    if backend is None:
        raise ModelError(_unknown(model))
    network: Network = backend.load_module().open_network(model, like=like)
    return network


def _open_adapter_off(like: Any) -> Network:
    backend = _backend_of(like)
    open_off = _offered(backend, "adapter_off")
    if open_off is None:
        raise ModelError(
            "initial=None stands for a PyTorch model with its LoRA adapter off; give the model "
            f"that training started from, as a {type(like).__qualname__} has no adapter"
        )
    network: Network = open_off(like)
    return network


def open_with_mark(model: Any) -> tuple[Network, str | bytes | None]:
    """Open a model, or a file that holds one, and return the mark that it carries, if any.

    Raises:
        ModelError: As :func:`open_network`.
    """
    if not isinstance(model, (str, os.PathLike)):
        return open_network(model), _mark_on(model, _backend_of(model))
    third_party()
    backend, held = _loaded_file(model)
    network: Network = backend.load_module().open_network(held, like=None)
    return network, _mark_on(held, backend)


def _mark_on(model: Any, backend: Backend | None) -> str | bytes | None:
    mark = carried(model)
    find = _offered(backend, "mark_of") if mark is None else None
    return find(model) if find else mark


def _offered(backend: Backend | None, name: str) -> Callable[..., Any] | None:
    """Return a function that a backend may have; None if it does not."""
    return None if backend is None else getattr(backend.load_module(), name, None)


def _unknown(model: Any) -> str:
    if isinstance(model, Mapping):
        return (
            "expected a model; got a dict, such as a state dict: it has weights but no "
            "architecture. Load it into its module and give that (for the initial model, a state "
            "dict will do)"
        )
    given = f"{type(model).__module__}.{type(model).__qualname__}".removeprefix("builtins.")
    missing = [name for name in MEMBERS if not hasattr(model, name)]
    if len(missing) < len(MEMBERS) - 1:
        return f"expected a network with {', '.join(MEMBERS)}; {given} lacks {', '.join(missing)}"
    return (
        f"expected a model that a backend opens, a path, or an object with {', '.join(MEMBERS)}, "
        f"as flain.Network describes them; got {given}. "
        f"Backends: {', '.join(backend.module for backend in backends())}"
    )


def architecture(model: Any) -> Any:
    """Return the model in a file or a network; a model that a backend knows is returned as it is.

    Raises:
        ModelError: No backend knows the model, or its framework is not installed.
    """
    return model if _backend_of(model) else open_network(model).native


def arrays_of(model: Any, *, buffers: bool = True) -> dict[str, Array]:
    """Copy the arrays of a model, by name, in its framework's order.

    Args:
        model: A model that a backend knows.
        buffers: Whether to include what a flat vector of the parameters does not hold, such as the
            statistics of batch normalization.

    Raises:
        ModelError: The model's backend does not hand out arrays.
    """
    backend = _backend_of(model)
    give = _offered(backend, "arrays_of")
    if give is None:
        name = type(model).__qualname__ if backend is None else f"the backend {backend.module}"
        raise ModelError(
            f"{name} offers no arrays_of, so the model cannot be had as arrays; load your arrays "
            "into an initial and a final model and give both to flain.purify"
        )
    arrays: dict[str, Array] = give(model, buffers=buffers)
    return arrays


def adapter_names(model: Any) -> dict[str, str]:
    """Pair the names that an adapter's file has for arrays with those of :func:`arrays_of`.

    Args:
        model: A model that a backend knows; one without an adapter has none.
    """
    give = _offered(_backend_of(model), "adapter_names")
    return {} if give is None else dict(give(model))


def imported(name: str, *, what: str, remedy: str) -> Any:
    """Import a function, a class, or a mapping of some.

    Args:
        name: ``"package.module:name"``.
        what: The option that ``name`` was given to, for messages.
        remedy: What to do if the module cannot be imported, for the message.

    Raises:
        ModelError: The name has another form, the module cannot be imported, or it has nothing
            such of that name.

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
    found = getattr(module, attribute, None)
    if not (callable(found) or isinstance(found, Mapping)):
        raise ModelError(f"{module_name!r} has no function or class {attribute!r} for {what}")
    return found


def built(name: str, *, what: str, remedy: str) -> Any:
    """Import the function or class that builds a model, as :func:`imported` does, and call it.

    Raises:
        ModelError: As there, or it cannot be called without arguments, fails or exits.

    >>> built("collections:Counter", what="--architecture", remedy="install it")
    Counter()
    >>> built("sys:exit", what="--architecture", remedy="install it")
    Traceback (most recent call last):
        ...
    flain_core.errors.ModelError: 'sys:exit' could not be called without arguments to build a model
    (SystemExit: )
    """
    factory = imported(name, what=what, remedy=remedy)
    try:
        return factory()
    except ModelError:
        raise
    # It runs whatever its author wrote there.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{name!r} could not be called without arguments to build a model "
            f"({type(error).__name__}: {error})"
        ) from error


def save(
    model: Any, path: str | os.PathLike[str], *, overwrite: bool = False, mark: str | None = None
) -> None:
    """Write a model in the file format that the suffix names, whole or not at all.

    Args:
        model: A model that a backend knows.
        path: Where it goes.
        overwrite: Whether a file that exists may be replaced.
        mark: A text that the file is to carry, where its format and the backend allow it.

    Raises:
        OutputError: The place cannot be written, or the model's backend does not write the format.
    """
    backend = _backend_of(model)
    if backend is None:
        raise OutputError(
            f"no backend writes a {type(model).__qualname__}; take the model from result.model and "
            "save it with its own framework"
        )
    check_format(model, path)
    write = backend.load_module().save
    marked = {} if mark is None or "mark" not in signature(write).parameters else {"mark": mark}
    write(model, path, overwrite=overwrite, **marked)


def check_format(model: Any, path: str | os.PathLike[str]) -> None:
    """Raise :class:`OutputError` if the model's backend does not write files of that suffix."""
    backend = _backend_of(model)
    suffix = os.path.splitext(path)[1]
    if backend is not None and not backend.writes:
        raise OutputError(
            f"cannot write {path}: {backend.module} writes no files; take the model from "
            "result.model and save it with its own framework"
        )
    if backend is not None and suffix not in backend.writes:
        raise OutputError(
            f"cannot write {path}: expected a name that ends in {' or '.join(backend.writes)}; "
            f"got {suffix or 'no suffix'}"
        )


def versions(model: Any) -> dict[str, str]:
    """Return the versions of flain and of what runs the model, for a report."""
    from importlib.metadata import PackageNotFoundError, version

    backend = _backend_of(model)
    found = {}
    for name in ("flain", "numpy", *(backend.distributions if backend else ())):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _open_file(path: str | os.PathLike[str], like: Any) -> Network:
    backend, model = _loaded_file(path)
    network: Network = backend.load_module().open_network(model, like=like)
    return network


def _loaded_file(path: str | os.PathLike[str]) -> tuple[Backend, Any]:
    if not os.path.exists(path):
        raise ModelError(f"cannot open {os.fspath(path)}: there is no such file")
    if os.path.isdir(path):
        raise ModelError(
            f"cannot open {os.fspath(path)}: expected a file; got a folder. A TensorFlow "
            "SavedModel holds a computation without layers, so there is no weight update to flip: "
            "save the Keras model itself with model.save('model.keras')"
        )
    for backend in backends():
        if os.path.splitext(path)[1] in backend.reads:
            return backend, backend.load_module().load(path)
    readable = [suffix for backend in backends() for suffix in backend.reads]
    raise ModelError(
        f"cannot open {os.fspath(path)}: expected a file that holds a whole model "
        f"({', '.join(readable)}). Weights alone (.pt, .safetensors) need their architecture: "
        "build the module, load them into it, and give the module (for the initial model, the "
        "state dict that you loaded will do; on the command line: --architecture module:factory)"
    )


def _backend_of(model: Any) -> Backend | None:
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(model).__mro__)
    return next((each for name in names for each in backends() if name in each.opens), None)
