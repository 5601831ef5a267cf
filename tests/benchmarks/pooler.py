"""`bench pooler`: the appliance through PgBouncer in transaction mode, where no connection is anybody's own.

A host encodes some videos through it; then many clients claim, renew and complete what is due, each with a connection
of its own to the pooler, which has few to the server. PgBouncer is the distribution's (`apt-get install pgbouncer`), or
the program that PGBOUNCER names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
from psycopg2 import extensions

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.domain.video import Worker
from appliance.local.port import LOOPBACK, free_ports
from tests.benchmarks import stack
from tests.benchmarks.measure import Figure, Missing, parser, tell
from tests.hosts import World, eventually, host

SERVER_CONNECTIONS = 10
SETTINGS = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = {listen}
listen_port = {pooled}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 2000
user = nobody
"""


def program() -> str:
    """Raises Missing."""
    found = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        raise Missing("pgbouncer is not installed")
    return found


@contextmanager
def pooled(dsn: str, directory: Path) -> Iterator[str]:
    """The DSN of the same database by way of a pooler."""
    port, server = next(free_ports()), extensions.parse_dsn(dsn)
    settings = directory / "pgbouncer.ini"
    known = {name: server[name] for name in ("host", "port", "user", "password")}
    settings.write_text(SETTINGS.format(**known, listen=LOOPBACK, pooled=port, connections=SERVER_CONNECTIONS))
    directory.chmod(0o755)  # it gives root away before it reads the file
    running = subprocess.Popen([program(), "-q", str(settings)], stderr=subprocess.DEVNULL)
    through = extensions.make_dsn(dsn, port=port)
    try:
        eventually(lambda: _answers(through))
        yield through
    finally:
        running.terminate()
        running.wait()


def _answers(dsn: str) -> bool:
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError:
        return False
    return True


def encoded(world: World, directory: Path, videos: int) -> Iterator[Figure]:
    source = stack.lecture(directory, 0.4)
    with host(world, directory / "host", pool={"encoders": 2}) as running:
        ids = [world.upload(source) for _ in range(videos)]
        for video_id in ids:
            world.ring(video_id)
        stack.until_ended(world, ids, patience=300)
        complaints = [line["event"] for line in running.log() if line.get("level") in ("warning", "error")]
    ready = sum(world.row(video_id)["status"] == "READY" for video_id in ids)
    yield Figure("pooler: videos READY of those uploaded", ready / videos, 1.0, at_least=True, raw={"videos": videos})
    yield Figure("pooler: warnings and errors in the log", float(len(complaints)), 0.0, raw={"events": complaints})


def claimed(world: World, clients: int, rows: int) -> Iterator[Figure]:
    fill = "INSERT INTO video (tenant_id, status, file_key) SELECT 1, 'UPLOADED', 'k' FROM generate_series(1, %s)"
    world.query(fill, rows)
    together, found = threading.Barrier(clients), list[int]()
    threads = [threading.Thread(target=_client, args=(world.dsn, together, found)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raw = {"clients": clients, "server connections": SERVER_CONNECTIONS, "claimed": len(found)}
    yield Figure(
        "pooler: rows not claimed exactly once",
        float(rows - len(set(found)) + len(found) - len(set(found))),
        0.0,
        raw=raw,
    )


def _client(dsn: str, together: threading.Barrier, found: list[int]) -> None:
    database = Database(dsn, application_name="bench")
    leases = Leases(database, lease_seconds=180, max_losses=5)
    together.wait()
    while lease := leases.claim_next(Worker("bench", "bench"), uuid.uuid4()):
        leases.renew(lease)
        leases.complete(lease, hls_path="hls", duration_seconds=1.0, receipt={})
        found.append(lease.video_id)
    database.close()


def figures(*, quick: bool) -> Iterator[Figure]:
    try:
        program()
    except Missing as error:
        yield Figure("pooler", None, 1.0, at_least=True, why=str(error))
        return
    with stack.stage() as (world, directory), pooled(world.dsn, directory) as dsn:
        through = replace(world, dsn=dsn)
        yield from encoded(through, directory, 1 if quick else 8)
        yield from claimed(through, *((20, 100) if quick else (500, 5000)))


def main() -> int:
    options = parser("pooler", __doc__, rounds=1).parse_args()
    return tell(figures(quick=options.quick), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
