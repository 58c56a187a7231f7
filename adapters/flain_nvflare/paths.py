"""Paths in a job's configuration, and the folders that relative ones start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvflare.apis.fl_context import FLContext

from flain_core import SettingsError


def checked_path(value: Any, what: str) -> str:
    """Return a path as text, as a configuration holds it; raise SettingsError if it is none."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise SettingsError(f"expected {what} to be the path of a file; got {value!r}")
    return str(value)


def custom_folder(fl_ctx: FLContext) -> Path:
    """Return the folder of the app's own code and files."""
    return Path(fl_ctx.get_engine().get_workspace().get_app_custom_dir(fl_ctx.get_job_id()))


def run_folder(fl_ctx: FLContext) -> Path:
    """Return the folder of the results of the job that runs."""
    return Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))
