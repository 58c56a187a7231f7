"""Guards processes of tests: no connection leaves this machine, and each client has its own name.

A connection to elsewhere is noted in the file that OUTSIDE names, and forbidden.
"""

import importlib.util
import os
import sys
import threading

# NVIDIA FLARE asks for its own address by "connecting" a datagram socket, which sends nothing.
ALLOWED = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "10.255.255.255")
SIMULATOR = "nvflare.private.fed.app.simulator.simulator_runner"


def forbid(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
        if host not in ALLOWED:
            with open(os.environ["OUTSIDE"], "a", encoding="utf-8") as file:
                file.write(f"{arguments[1]}\n")
            raise PermissionError(f"a test wanted to connect to {host}")


class OfThread(dict):
    """A dict of which each thread sets items for itself alone.

    The simulator starts clients in threads, and all of them write the name of theirs into one dict
    before they send it. Where two do so at once, both clients get one name, and the job never ends.
    """

    def __init__(self, given):
        super().__init__(given)
        self.own = threading.local()

    def __setitem__(self, key, value):
        setattr(self.own, key, value)

    def __reduce__(self):
        return dict, ({**self, **vars(self.own)},)


class Mending:
    """Mends the simulator where it is imported, as most processes never do."""

    def find_spec(self, name, path=None, target=None):
        if name != SIMULATOR:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def run_and_mend(module):
            run(module)
            runner = module.SimulatorClientRunner
            begin = runner.__init__

            def begin_mended(self, *given, **named):
                begin(self, *given, **named)
                self.build_ctx = OfThread(self.build_ctx)

            runner.__init__ = begin_mended

        spec.loader.exec_module = run_and_mend
        return spec


sys.addaudithook(forbid)
sys.meta_path.insert(0, Mending())
