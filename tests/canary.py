"""A server that nobody may reach: it counts who does."""

from __future__ import annotations

import socket
import threading
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
