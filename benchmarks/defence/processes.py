"""Several processes on the same work."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import torch
from rich.console import Console

from . import rows, runner

_console = Console(highlight=False, soft_wrap=True)

Task = tuple[Callable[[rows.Profile, runner.Places, runner.Say], int], rows.Profile, runner.Places]


def run(jobs: int, task: Task) -> bool:
    """Sets processes on the same work, which their locks share out; whether all of it worked."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_run, args=(task,), daemon=True) for _ in range(jobs - 1)]
    for other in others:
        other.start()
    failed = _run(task)
    for other in others:
        other.join()
    return not failed and not any(other.exitcode for other in others)


def _run(task: Task) -> int:
    torch.set_num_threads(1)
    work, profile, places = task
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    failed = work(profile, places, _say)
    if parent is not None and failed:
        raise SystemExit(1)
    return failed


def _end_with(parent: BaseProcess) -> None:
    """Ends this process when its parent ends, which a signal may kill before it can say so."""
    parent.join()
    os._exit(1)


def _say(line: str) -> None:
    _console.print(f"{time.strftime('%H:%M:%S')} {os.getpid()} {line}", markup=False)
