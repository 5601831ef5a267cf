"""A server that nobody may reach and a file that nobody may read: they tell who does."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import threading
from pathlib import Path
from typing import Self


class CanaryServer:
    """On loopback, TCP; each connection is counted and closed."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if connection.recv(16) == b"end":
                    return
                self.connections += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Accepts in order, so whoever came before is counted by now."""
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"end")
        self._thread.join(10)
        self._socket.close()


class CanaryFile:
    """Watched by inotify(7): every open, by whatever name, is seen."""

    OPENED = 0x20

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        path.write_bytes(content)
        libc = ctypes.CDLL(None, use_errno=True)
        self._watcher = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if libc.inotify_add_watch(self._watcher, os.fsencode(path), self.OPENED) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    @property
    def opened(self) -> bool:
        """Since it was asked last."""
        found = bool(select.select([self._watcher], [], [], 0)[0])
        if found:
            os.read(self._watcher, 4096)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._watcher)
