"""Reads an HDF5 file for the first time in a process that may hang or crash.

HDF5 is written in C. Some damaged files make it loop for ever, or end the process, and nothing that
runs beside it can stop that. So a process of its own reads all that a model may be read from.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from flain_core.errors import WeightsError
from flain_core.storage.limits import MEMORY, memory_limit, time_limit

from ._trial_program import TOO_LARGE

_MOST_SECONDS, _BYTES_A_SECOND = 60.0, 2**22

_PROGRAM = str(Path(__file__).with_name("_trial_program.py"))


def check_readable(source: Path) -> None:
    """Raise :class:`WeightsError` if HDF5 crashes on a ``.h5`` or ``.keras`` file, or never ends.

    That it reads well is not said: whoever reads the file finds out what is wrong with it.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        # There is no Python to start, but the program that this one is part of.
        return
    size = source.stat().st_size
    seconds = min(time_limit(), _MOST_SECONDS) + size / _BYTES_A_SECOND
    # Isolated, so that no module comes from the current folder; but with what is installed here.
    arguments = [json.dumps(sys.path), str(max(memory_limit(), size)), str(source.resolve())]
    try:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-I", _PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"cannot read {source}: HDF5 does not come to an end with it within {seconds:.0f} "
            "seconds, so it is damaged; save it again with model.save"
        ) from error
    if ran.returncode == TOO_LARGE:
        raise WeightsError(
            f"{source} asks for more memory than the {memory_limit() / 2**30:g} GiB that are "
            f"allowed; if you trust it, set {MEMORY} to the GiB that it may take"
        )
    if ran.returncode < 0:
        raise WeightsError(
            f"cannot read {source}: HDF5 crashes on it (signal {-ran.returncode}), so it is "
            "damaged; save it again with model.save"
        )
