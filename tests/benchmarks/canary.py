"""What a crafted upload may try to reach: a server and a file of this machine. Who touches either is noted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from appliance.local.port import LOOPBACK

#: What names an address or a file of this machine in a playlist, an MPD or a concat script.
HERE = re.compile(rb"http://(?:127\.0\.0\.1|localhost)(?::(\d+))?(?:/[^\s<>\"]*)?")
FILE = re.compile(rb"(?m)(file://|^file )/[^\s<>\"]+")
#: A crafted script is small; a recording that happens to hold such bytes is not one.
MOST_BYTES = 64 * 1024
IN_OPEN, IN_ACCESS = 0x20, 0x1  # inotify(7)


class Canary:
    """`with Canary(directory, ports)`: listens on a port of its own and on those given, and watches a file of its own.

    A port that cannot be had (below 1024 without root, or taken) is in `unwatched`. `touched` says who came.
    """

    def __init__(self, directory: Path, ports: set[int]) -> None:
        self.file = directory / "canary.ts"
        self.file.write_text("Nobody may read this.\n")
        self.touched: list[str] = []
        self.unwatched: list[int] = []
        self._servers = [self._listen(0)]
        for port in sorted(ports):
            try:
                self._servers.append(self._listen(port))
            except OSError:
                self.unwatched.append(port)
        self.url = f"http://{LOOPBACK}:{self._servers[0].server_port}/canary.ts"
        self._end, end = os.pipe()
        self._threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in self._servers]
        self._threads.append(threading.Thread(target=self._watch, args=(_inotify(self.file), end), daemon=True))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        os.close(self._end)
        for thread in self._threads:
            thread.join()

    def aimed(self, data: bytes) -> bytes:
        """The script with its addresses and files replaced by the canary's."""
        return FILE.sub(rb"\1" + bytes(self.file), HERE.sub(self.url.encode(), data))

    def _listen(self, port: int) -> ThreadingHTTPServer:
        touched = self.touched

        class Door(BaseHTTPRequestHandler):
            def handle(self) -> None:
                visitor = _visitor(self.client_address[1])
                if visitor is not None:
                    touched.append(f"port {self.server.server_address[1]}: {visitor}")

        return ThreadingHTTPServer((LOOPBACK, port), Door)

    def _watch(self, inotify: int, end: int) -> None:
        while True:
            ready, _, _ = select.select([inotify, end], [], [])
            if inotify in ready:
                os.read(inotify, 4096)
                self.touched.append(str(self.file))
            elif end in ready:
                break
        os.close(inotify)
        os.close(end)


def bait(data: bytes) -> bool:
    """Whether a file's bytes are a script that points at this machine."""
    return len(data) <= MOST_BYTES and data.isascii() and bool(HERE.search(data) or FILE.search(data))


def ports(data: bytes) -> set[int]:
    """The ports of this machine that a script names."""
    return {int(port or 80) for port in HERE.findall(data)}


def _visitor(port: int) -> str | None:
    """Who holds this end of a connection; None for a process that is none of ours and came for its own reasons."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            if connection.pid not in ours:
                return None
            with contextlib.suppress(psutil.Error):
                return " ".join(psutil.Process(connection.pid).cmdline())[:200]
    return "somebody who was gone at once"


def _inotify(file: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(file), IN_OPEN | IN_ACCESS) < 0:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise OSError(ctypes.get_errno(), "inotify does not watch the canary")
    return int(descriptor)
