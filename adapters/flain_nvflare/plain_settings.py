"""Settings as the plain values that a job's configuration can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from flain_core import Grid, Settings, SettingsError
from flain_core.errors import nearest


def plain(settings: Settings | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return valid settings in types that JSON knows.

    Raises:
        SettingsError: A value is out of range, or has no such name.

    Example:
        >>> plain(Settings(tolerance=0.005))["tolerance"]
        0.005
        >>> plain({"tolerance": 0.005})
        {'tolerance': 0.005}
    """
    if isinstance(settings, Settings):
        return asdict(settings)
    settings_of(settings)
    return None if settings is None else dict(settings)


def settings_of(values: Mapping[str, Any] | None) -> Settings:
    """Return the settings that plain values stand for; defaults stand for what they leave out.

    Raises:
        SettingsError: A value is out of range, or has no such name.

    Example:
        >>> settings_of({"thresholds": {"start": 0.1, "step": 0.1, "stop": 0.5}}).thresholds
        Grid(start=0.1, step=0.1, stop=0.5)
    """
    given = {} if values is None else values
    if not isinstance(given, Mapping):
        raise SettingsError(
            "expected settings=flain.Settings(...), or a dict of their values such as "
            f'{{"tolerance": 0.005}}; got {values!r}'
        )
    chosen = dict(given)
    _check_names(chosen, Settings, "settings")
    if isinstance(chosen.get("thresholds"), Mapping):
        _check_names(chosen["thresholds"], Grid, "thresholds")
        chosen["thresholds"] = _built(Grid, chosen["thresholds"])
    settings: Settings = _built(Settings, chosen)
    return settings


def _check_names(given: Mapping[str, Any], of: Any, what: str) -> None:
    known = [field.name for field in fields(of)]
    for name in given:
        if name not in known:
            raise SettingsError(
                f"expected {what} to be among {', '.join(known)}; got {name!r}."
                f"{nearest(str(name), known)}"
            )


def _built(of: Any, given: Mapping[str, Any]) -> Any:
    try:
        return of(**given)
    except TypeError as error:
        raise SettingsError(f"the settings are incomplete: {error}") from error
