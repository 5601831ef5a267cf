"""What the tests of this room share: a second person at the database, a clock, and a proxy that loses answers."""

from __future__ import annotations

import select
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn
from psycopg2.extras import RealDictCursor

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.domain.video import Lease, Worker

LEASE_SECONDS = 180.0
CHUNK_LEASE_SECONDS = 60.0
MAX_LOSSES = 3
WORKER = Worker("host-a", "host-a/1")
CLOCK_PATH = "clock, pg_catalog, public"
#: now() of every statement that finds this schema first (DESIGN §2, rule 6).
CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.time AS SELECT timestamptz '2026-03-01 00:00+00' AS value;
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT value FROM clock.time';
"""


class Admin:
    """The platform, or a person with psql: another connection, beside everything under test."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg2.connect(dsn)
        self.connection.autocommit = True

    def __call__(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        with self.connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(statement, [str(p) if isinstance(p, uuid.UUID) else p for p in parameters] or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def row(self, video_id: int) -> dict[str, Any]:
        return self("SELECT * FROM video WHERE id = %s", video_id)[0]

    def attempts(self, video_id: int) -> list[dict[str, Any]]:
        return self("SELECT * FROM video_attempt WHERE video_id = %s ORDER BY epoch", video_id)

    def chunks(self, video_id: int) -> list[dict[str, Any]]:
        return self("SELECT * FROM video_chunk WHERE video_id = %s ORDER BY plan, number", video_id)


@dataclass
class Clock:
    admin: Admin

    def advance(self, seconds: float) -> None:
        self.admin("UPDATE clock.time SET value = value + make_interval(secs => %s)", seconds)


def make_leases(database: Database, **settings: Any) -> Leases:
    return Leases(database, lease_seconds=LEASE_SECONDS, max_losses=MAX_LOSSES, **settings)


def claimed(leases: Leases, video_id: int, worker: Worker = WORKER) -> Lease:
    """A claim that must work."""
    lease = leases.claim(video_id, worker, uuid.uuid4())
    assert isinstance(lease, Lease), lease
    return lease


class Proxy:
    """TCP in front of the server. `swallow`: the statement runs and commits, its answer is lost. `drop`: it never
    arrives. `freeze`: it never arrives, and nobody says so. Each acts on the first statement with this name."""

    def __init__(self, dsn: str) -> None:
        target = parse_dsn(dsn)
        self._target = (target["host"], int(target["port"]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_dsn(dsn, host="127.0.0.1", port=self._listener.getsockname()[1])
        self._fault: tuple[str, bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._stop, self._stopping = socket.socketpair()
        self._begin(self._accept)

    def swallow(self, statement: str) -> None:
        self._fault = ("swallow", f"video-appliance {statement} ".encode())

    def drop(self, statement: str) -> None:
        self._fault = ("drop", f"video-appliance {statement} ".encode())

    def freeze(self, statement: str) -> None:
        self._fault = ("freeze", f"video-appliance {statement} ".encode())

    @property
    def acted(self) -> bool:
        return self._fault is None

    def close(self) -> None:
        self._stop.close()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._stopping.close()

    def _begin(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._listener in select.select([self._listener, self._stopping], [], [])[0]:
            self._begin(self._pump, self._listener.accept()[0])

    def _pump(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            while True:
                ready = select.select([client, server, self._stopping], [], [])[0]
                if self._stopping in ready:
                    return
                source, sink = (client, server) if client in ready else (server, client)
                data = source.recv(65536)
                if not data or (source is client and self._fails(data, server)):
                    return
                sink.sendall(data)

    def _fails(self, data: bytes, server: socket.socket) -> bool:
        if self._fault is None or self._fault[1] not in data:
            return False
        kind, self._fault = self._fault[0], None
        if kind == "swallow":
            server.sendall(data)
            assert server.recv(65536)  # the answer comes after the commit
        if kind == "freeze":
            select.select([self._stopping], [], [])
        return True
