"""What the statements of a large fleet cost PostgreSQL: CPU milliseconds, in tables as it leaves them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg2

from appliance.adapters.postgres.chunks import Chunks
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.domain.plan import PLAN_REVISION
from appliance.domain.video import ChunkLease, Lease, Worker
from appliance.local.postgres import Postgres
from tests.benchmarks.claims import database

#: Videos that are READY, for each second of measuring.
HISTORY = 200_000
BUILD, PLAN, CHUNKS, RUNNING = "bench", "p", 50, 10
WORKER = Worker("bench", "bench:1:1")
RECEIPT = {"cpu_seconds": 1.0, "wall_seconds": 1.0}
#: A fleet's tables in mid-evening: each video of an encoder has ten chunks done, one running, the rest to do.
FILL = """
    INSERT INTO video (tenant_id, status, file_key, created_at, updated_at, hls_path)
    SELECT 1, 'READY', 'sources/' || n, now(), now(), 'hls/' || n FROM generate_series(1, {history}) AS n;
    INSERT INTO video (tenant_id, status, file_key, created_at, updated_at)
    SELECT 1, 'UPLOADED', 'sources/' || n, now(), now() FROM generate_series(1, {waiting}) AS n;
    WITH held AS (
        INSERT INTO video (tenant_id, status, file_key, plan, created_at, updated_at, leased_by, leased_until,
                           lease_token, lease_epoch, leased_at, renewed_at)
        SELECT 1, 'PROCESSING', 'sources/' || n, 'p', now(), now(), 'bench', now() + interval '1 hour',
               md5('video' || n)::uuid, 1, now() - n * interval '1 second', now()
        FROM generate_series(1, {encoders}) AS n RETURNING id
    ), planned AS (
        INSERT INTO video_plan (video_id, fingerprint, build, plan, created_at)
        SELECT id, 'p', 'bench', jsonb_build_object('revision', {revision}), now() FROM held RETURNING video_id
    )
    INSERT INTO video_chunk (video_id, plan, number, state, token, epoch, worker, leased_until, objects)
    SELECT video_id, 'p', n, CASE WHEN n < 10 THEN 'DONE' WHEN n = 10 THEN 'RUNNING' ELSE 'TODO' END,
           CASE WHEN n <= 10 THEN md5(video_id || 'chunk' || n)::uuid END, 1, 'bench',
           CASE WHEN n = 10 THEN now() + interval '1 hour' END, CASE WHEN n < 10 THEN '{{}}'::jsonb END
    FROM planned, generate_series(0, {chunks} - 1) AS n
"""


def costs(postgres: Postgres, *, encoders: int, seconds: float) -> dict[str, float]:
    """By name; each is repeated for so many seconds on one connection. `MiB`: what its backend then has for itself."""
    filled = FILL.format(
        history=round(HISTORY * seconds),
        waiting=round(20_000 * seconds),
        encoders=encoders,
        chunks=CHUNKS,
        revision=PLAN_REVISION,
    )
    with database(postgres, filled) as dsn:
        connection = Database(dsn, application_name="bench")
        connection.ping()
        backend = psutil.Process(_backend(dsn))
        found = {name: _cost(backend, call, seconds) for name, call in _calls(connection, _held(dsn))}
        return {**found, "MiB": backend.memory_full_info().uss / 2**20}


def _cost(backend: psutil.Process, call: Callable[[], Any], seconds: float) -> float:
    before, until, times = _used(backend), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        call()
        times += 1
    return 1000 * (_used(backend) - before) / times


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _backend(dsn: str) -> int:
    return int(_read(dsn, "SELECT pid FROM pg_stat_activity WHERE application_name = 'bench'")[0][0])


def _held(dsn: str) -> list[tuple[Lease, ChunkLease]]:
    """What the encoders hold: a video each, and its running chunk."""
    rows = _read(
        dsn,
        "SELECT v.id, v.lease_token::text, c.token::text FROM video AS v JOIN video_chunk AS c ON c.video_id = v.id"
        " WHERE v.status = 'PROCESSING' AND c.state = 'RUNNING'",
    )
    return [
        (
            Lease(number, 1, "", uuid.UUID(token), 1, WORKER),
            ChunkLease(number, PLAN, RUNNING, uuid.UUID(chunk)),
        )
        for number, token, chunk in rows
    ]


def _read(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall()
    finally:
        connection.close()


def _calls(connection: Database, held: list[tuple[Lease, ChunkLease]]) -> Iterator[tuple[str, Callable[[], Any]]]:
    leases = Leases(connection, lease_seconds=3600, max_losses=5)
    chunks, sweeps = Chunks(connection, chunk_lease_seconds=3600), Sweeps(connection, max_losses=5)
    turn = iter(range(10**9))

    def each() -> tuple[Lease, ChunkLease]:
        return held[next(turn) % len(held)]

    def claim_and_complete() -> None:
        lease = leases.claim_next(WORKER, uuid.uuid4())
        assert lease is not None
        leases.complete(lease, hls_path="hls", duration_seconds=1.0, receipt=RECEIPT)

    yield "renew", lambda: leases.renew(each()[0])
    yield "renew_chunk", lambda: chunks.renew_chunk(each()[1])
    yield "claim_next, complete", claim_and_complete
    yield "backlog", Reports(connection).backlog
    yield "processing_page", lambda: sweeps.processing_page(0, 500)
    yield "help_wanted", lambda: chunks.help_wanted(BUILD)
    connection.run("check")
    yield "claim_assist", lambda: chunks.claim_assist(WORKER, uuid.uuid4(), BUILD)
