"""The command in a process of its own, on a pipe or a terminal, and a model that takes its time."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

COMMAND = [sys.executable, "-m", "flain_cli"]
# What a language or a terminal of the machine's own would decide.
BARE = {
    name: value
    for name, value in os.environ.items()
    if name not in {"TERM", "LANG", "LC_ALL", "COLUMNS", "PYTHONUTF8", "PYTHONIOENCODING"}
}


def run(*words, env=None, **options):
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        env=BARE | (env or {}),
        check=False,
        **options,
    )


def on_a_terminal(*words, env, until=None):
    """Run the command with stderr on a terminal; return the exit code and what it showed."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=its, env=BARE | env
    )
    os.close(its)
    shown, began = b"", time.monotonic()
    while time.monotonic() - began < 120:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            shown += part
            if not part:
                break
        if until and until in shown:
            process.send_signal(signal.SIGINT)
            until = None
    os.close(ours)
    process.stdout.read()
    process.stdout.close()
    return process.wait(60), shown.decode()


SLOW = """
import time
import flain_numpy

class Slow:
    def __init__(self, network):
        self.network = network
    def __getattr__(self, name):
        return getattr(self.network, name)
    def cut(self, layer, x):
        cut = self.network.cut(layer, x)
        return cut
    def replace(self, *given):
        return Slow(self.network.replace(*given))
    def predict(self, x):
        time.sleep({pause})
        return self.network.predict(x)

def final():
    return Slow(flain_numpy.load("final.npz"))

def stuck():
    print("stuck", file=__import__("sys").stderr, flush=True)
    time.sleep(100)
"""
