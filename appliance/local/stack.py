"""The embedded stack of `demo` and of the tests: real PostgreSQL, real Redis and moto's server, on free loopback ports.

Whatever ends this process, nothing is left: the servers are tethered to it, and a sweeper outside of it removes the
directory when its end of a pipe closes, be it by `stop` or by SIGKILL.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from appliance.local.aws import Aws
from appliance.local.port import free_ports
from appliance.local.postgres import Postgres
from appliance.local.redis import Redis

#: Reads until the pipe closes, then removes "$1"; again for a while, because servers may still be dying in it.
SWEEPER = 'cat >/dev/null; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit 0; sleep 0.3; done; exit 1'


class Stack:
    """Three servers and one private directory.

    Start it in a thread that stays, best the main one: the kernel ties a server to the thread that started it.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="video-appliance-"))
        self._sweeper = subprocess.Popen(
            ["/bin/sh", "-c", SWEEPER, "sh", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        # Passable but not readable for others: PostgreSQL may run as another user in there.
        self.directory.chmod(0o711)
        ports = free_ports()
        self.postgres = Postgres(self.directory, next(ports))
        self.redis = Redis(self.directory, next(ports))
        self.aws = Aws(self.directory, next(ports))

    def start(self) -> None:
        """Start all three side by side; returns when all answer. Raises Unavailable and leaves nothing otherwise."""
        try:
            for server in self._servers:
                server.launch()
            for server in self._servers:
                server.wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the servers, remove the directory; harmless when repeated."""
        for server in self._servers:
            server.stop()
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        self._sweeper.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _servers(self) -> tuple[Aws, Redis, Postgres]:
        """The slowest to start first."""
        return (self.aws, self.redis, self.postgres)
