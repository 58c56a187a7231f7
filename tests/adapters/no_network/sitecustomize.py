"""On the path of a process, keeps it and its children from talking to other machines.

What they try is written to the file that FLAIN_TRIED names, one attempt per line, and refused.
"""

import os
import socket
import sys

_LOCAL = {None, "", "localhost", "0.0.0.0", "::", "::1", socket.gethostname()}
# Ray asks there which cloud it runs in; it is refused, and told of nobody.
_CLOUD = {"169.254.169.254", "metadata.google.internal"}


def _is_local(host):
    return host in _LOCAL or host.startswith("127.") or host in _own_addresses


def _host(event, args):
    if event == "socket.getaddrinfo":
        return args[0].decode() if isinstance(args[0], bytes) else args[0]
    if event == "socket.connect" and args[0].family != socket.AF_UNIX:
        # Connecting a datagram socket sends nothing; Ray asks for its own address that way.
        return args[1][0] if args[0].type == socket.SOCK_STREAM else None
    return None


def _watch(event, args):
    host = _host(event, args)
    if _is_local(host):
        return
    if host not in _CLOUD:
        with open(os.environ["FLAIN_TRIED"], "a") as file:
            file.write(f"{event} {host}\n")
    raise ConnectionRefusedError(f"a test tried to reach {host}")


def _addresses():
    """This machine's own, as Ray finds them."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.add(probe.getsockname()[0])
        except OSError:
            pass
    return found


_own_addresses = _addresses()
sys.addaudithook(_watch)
