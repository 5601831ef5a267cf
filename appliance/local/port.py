"""A free port on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
#: Below the kernel's ephemeral range (ip(7), 32768 and up): while a server of ours is down, no outgoing connection is
#: given its port, and a client that retries cannot connect to itself.
FIRST_PORT = 10_000
LAST_PORT = 32_000


def free_ports() -> Iterator[int]:
    """Ports nobody listens on, found as they are asked for.

    Two stacks that start at once start looking in different places: the place follows from the process id.
    """
    count = LAST_PORT - FIRST_PORT
    start = os.getpid() * 7 % count
    candidates = (FIRST_PORT + (start + step) % count for step in range(count))
    return filter(_is_free, candidates)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
