"""Sends flain along to workers of a Ray cluster that have none."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from flain_core.errors import DataError

_PACKAGES = (
    "flain_core",
    "flain_ray",
    "flain_numpy",
    "flain_torch",
    "flain_keras",
    "flain_onnx",
    "flain_sklearn",
)


_LONGEST_QUOTE = 300

LACKS_FLAIN = (
    "the workers of the Ray cluster have no flain; nothing was purified. Send it along, "
    "ray.init(runtime_env=flain_ray.runtime_env()) before the shards, or install it on every "
    "machine"
)


def runtime_env() -> dict[str, Any]:
    """Return a runtime environment of Ray that sends flain along, for workers that have none.

    It goes into ``ray.init(runtime_env=...)``; Ray takes folders for a whole job only, not for an
    actor. What flain needs, NumPy and the model's framework, has to be there, or to be named under
    ``"pip"``.

    Example:
        >>> environment = runtime_env() | {"env_vars": {"KERAS_BACKEND": "jax"}}
        >>> any(path.endswith("flain_core") for path in environment["py_modules"])
        True
    """
    specs = [find_spec(name) for name in _PACKAGES]
    folders = [next(iter(spec.submodule_search_locations or ())) for spec in specs if spec]
    return {"py_modules": folders}


def lacks_flain(error: Exception) -> bool:
    """Return whether an error of Ray says that a worker has no flain."""
    return "No module named 'flain" in str(error)


def failed(what: str, error: Exception) -> DataError:
    """Return an error that says what failed, and quotes what Ray says of it."""
    told = " ".join(str(error).split())[:_LONGEST_QUOTE]
    return DataError(f"{what}; nothing was purified. Ray says: {told}")
