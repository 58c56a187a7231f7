"""Notes connections that leave this machine in the file that OUTSIDE names, and forbids them."""

import os
import sys

# NVIDIA FLARE asks for its own address by "connecting" a datagram socket, which sends nothing.
ALLOWED = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "10.255.255.255")


def forbid(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
        if host not in ALLOWED:
            with open(os.environ["OUTSIDE"], "a", encoding="utf-8") as file:
                file.write(f"{arguments[1]}\n")
            raise PermissionError(f"a test wanted to connect to {host}")


sys.addaudithook(forbid)
