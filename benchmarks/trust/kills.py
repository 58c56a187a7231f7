"""Kills a write at everything that it does to files, and looks at what is there then."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree

from .folders import folder_for_now
from .killing import killed_at
from .writers import WRITERS, Writer

_MOST_EVENTS = 400
_OLD, _NEW = 1.0, 2.0


@dataclass
class Killed:
    """What was left by the kills of one writer.

    Attributes:
        format: Its name.
        kills: How many there were.
        old: How often the old file, or none where there was none, was there afterwards.
        new: How often the new one was.
        faults: What was neither, and what lay about after the next run.
    """

    format: str
    kills: int = 0
    old: int = 0
    new: int = 0
    faults: list[str] = field(default_factory=list)


def killed(name: str, *, step: int = 1) -> Killed:
    """Kill a write at every event, or at every ``step``-th, where a file was and where none was."""
    writer, done = WRITERS[name](), Killed(name)
    with folder_for_now() as root:
        # What a first write imports is no event of the others.
        for number in (_OLD, _NEW):
            (folder := root / f"warm {number}").mkdir()
            writer.write(folder / writer.name, number, False)
        for there in (False, True):
            _at_every_event(writer, root, done, there=there, step=step)
    return done


def _at_every_event(writer: Writer, root: Path, done: Killed, *, there: bool, step: int) -> None:
    for event in range(0, _MOST_EVENTS, step):
        folder = root / f"{there} {event}"
        folder.mkdir()
        path = folder / writer.name
        if there:
            writer.write(path, _OLD, False)
        work = partial(writer.write, path, _NEW, there)
        if not killed_at(event, folder, work):
            return
        done.kills += 1
        where = f"{'over a file' if there else 'no file before'}, event {event}"
        found = writer.number(path) if path.exists() else 0.0
        if found == (_OLD if there else 0.0):
            done.old += 1
        elif found == _NEW:
            done.new += 1
        else:
            done.faults.append(f"{where}: neither old nor new")
        writer.write(path, _NEW, True)
        if writer.number(path) != _NEW:
            done.faults.append(f"{where}: the next run did not write")
        if stray := writer.stray(folder):
            done.faults.append(f"{where}: {', '.join(stray)} left after the next run")
        rmtree(folder)
    done.faults.append(f"more than {_MOST_EVENTS} events")
