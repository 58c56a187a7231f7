"""Options of a purification from a run's configuration, ``[tool.flwr.app.config.flain]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flain_core import SettingsError
from flain_core.errors import nearest
from flain_core.settings import settings_or_default

_PREFIX = "flain."


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _layers(value: Any) -> str | list[str]:
    names = [name.strip() for name in _text(value).split(",")]
    return names if len(names) > 1 or names[0] not in _GROUPS else names[0]


_GROUPS = ("auto", "dense", "conv", "all")

_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "enabled": _bool,
    "folder": _text,
    "on_error": _text,
    "layers": _layers,
    "outputs": _text,
    "batch_size": _whole,
    "memory_limit": _whole,
    "seed": _whole,
}
_SETTINGS: Mapping[str, Callable[[Any], Any]] = {
    "measure": _text,
    "tolerance": _number,
    "flip": _text,
    "promise": _number,
    "confidence": _number,
    "held_back": _number,
    "factor": _number,
    "crossing": _text,
    "statistic": _text,
    "match_norm": _bool,
}


def configured(run_config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of ``Purify``, with those of the run's configuration in place of the code's.

    Args:
        run_config: ``context.run_config``. Keys that start with ``flain.`` count, with ``-`` or
            ``_`` in them; the empty text leaves a key to the code.
        options: What the code says.

    Raises:
        SettingsError: There is no such key, or its value is of the wrong type or out of range.

    Example:
        >>> run_config = {"flain.tolerance": 0.01, "flain.layers": "fc1, fc2", "flain.folder": ""}
        >>> options = configured(run_config, {"folder": "models"})
        >>> options["layers"], options["settings"].tolerance, options["folder"]
        (['fc1', 'fc2'], 0.01, 'models')
    """
    if not isinstance(run_config, Mapping):
        raise SettingsError(f"expected context.run_config, a mapping; got {run_config!r}")
    chosen, settings = dict(options), dict[str, Any]()
    known = {**_OPTIONS, **_SETTINGS}
    for key, value in run_config.items():
        if not str(key).startswith(_PREFIX) or value == "":
            continue
        name = key.removeprefix(_PREFIX).replace("-", "_")
        if name not in known:
            keys = [_PREFIX + each.replace("_", "-") for each in known]
            raise SettingsError(
                f"expected a key of the run's configuration among {', '.join(keys)}; got {key!r}."
                f"{nearest(key, keys)}"
            )
        try:
            read = known[name](value)
        except TypeError as error:
            raise SettingsError(
                f"expected {key} of the run's configuration to be {error}; got {value!r}"
            ) from error
        (settings if name in _SETTINGS else chosen)[name] = read
    if settings:
        code = settings_or_default(chosen.get("settings"))
        chosen["settings"] = replace(code, **settings)
    return chosen
