"""What the actors of a Ray cluster have to import, for the tests that send it there."""

import os
import threading
import time
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).parents[1]
_FOLDERS = (_ROOT, _ROOT / "backends", _ROOT / "adapters", _ROOT / "tests")
PATH = os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PYTHONPATH", "")])
"""Where the processes of a cluster find flain and this file."""


def margin(scores, y):
    """By how much the right class leads: no whole number."""
    rows = np.arange(len(y))
    others = scores.copy()
    others[rows, y] = -np.inf
    return scores[rows, y].astype(np.float64) - others.max(axis=1)


class Dies:
    """Accuracy, but the process that computes it dies at a certain call, as often as it is told."""

    def __init__(self, folder, at_call, times):
        self.folder, self.at_call, self.times = folder, at_call, times
        self.calls = 0

    def __call__(self, scores, y):
        self.calls += 1
        if self.calls == self.at_call and len(list(self.folder.iterdir())) < self.times:
            (self.folder / str(os.getpid())).touch()
            os._exit(1)
        return scores.argmax(axis=1) == y


class Notes:
    """Accuracy, slowly; notes down which process computes it."""

    def __init__(self, folder, seconds):
        self.folder, self.seconds = Path(folder), seconds

    def __call__(self, scores, y):
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.seconds)
        return scores.argmax(axis=1) == y


def fails(scores, y):
    raise ZeroDivisionError("this score divides by zero")


class Locked:
    """A network that cannot be pickled."""

    def __init__(self, network):
        self._lock = threading.Lock()
        self.native, self.layers = network.native, network.layers
        self.predict, self.cut, self.replace = network.predict, network.cut, network.replace


class Changed:
    """A network that is another one where it is unpickled."""

    def __init__(self, network):
        self._network = network
        self.native, self.layers = network.native, network.layers
        self.predict, self.cut, self.replace = network.predict, network.cut, network.replace

    def __reduce__(self):
        name, layer = next(iter(self.layers().items()))
        return Changed, (self.replace({name: -layer.weight}),)


class OddError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, *, lock):
        super().__init__("odd")
        self.lock = lock


def fails_oddly(scores, y):
    raise OddError(lock=threading.Lock())
