"""A database on which a behaviour is tried in milliseconds, between rows that nobody may touch."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from appliance.adapters.postgres.chunks import Assist, Chunks
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.domain.plan import Chunk, Grid, Plan
from appliance.domain.video import ChunkLease, Lease, Worker
from tests.adapters.postgres.stage import (
    CHUNK_LEASE_SECONDS,
    CLOCK,
    CLOCK_PATH,
    MAX_LOSSES,
    WORKER,
    Admin,
    claimed,
    make_leases,
)

BUILD = "ffmpeg-9"
HELPER = Worker("host-b", "host-b/1")
OBJECTS = {"prefix": "hls/1/media/f/1-t", "tracks": []}


def make_plan(fingerprint: str = "first-plan", chunks: int = 3) -> Plan:
    return Plan(
        fingerprint=fingerprint,
        origin_ticks=0,
        grid=Grid(25, 1, 7500, 50, 150),
        video=None,
        audio=None,
        chunks=tuple(Chunk(number, 10 * number, 10, 1500 * number, 1500) for number in range(chunks)),
    )


PLAN = make_plan()
#: Between two scenes: nothing is left of the last, and the clock stands at its beginning.
RESET = """
DELETE FROM video_chunk WHERE video_id < 1000000; DELETE FROM video_plan WHERE video_id < 1000000;
DELETE FROM video_attempt WHERE video_id < 1000000; DELETE FROM video WHERE id < 1000000;
UPDATE reconcile_tick SET ticked_at = NULL, host = NULL WHERE video_table = 'video';
UPDATE clock.time SET value = '2026-03-01 00:00+00';
"""
#: A bystander is in every state, a year away from anything due, under the same plan and with the same chunk numbers.
NEIGHBOURHOOD = """
TRUNCATE video_chunk, video_plan, video_attempt, video;
DELETE FROM reconcile_tick;
INSERT INTO reconcile_tick (video_table, ticked_at) VALUES ('other', '2020-01-01'), ('video', NULL);
INSERT INTO video (id, status, file_key, tenant_id, run_after, next_ring_at, ring_count, lease_token, lease_epoch,
                   leased_by, leased_until, renewed_at, plan)
SELECT 1000000 + n, status, 'b.mp4', 9,
       CASE WHEN status = 'UPLOADED' THEN timestamptz '2027-03-01' END,
       CASE WHEN status = 'UPLOADED' THEN timestamptz '2027-03-01' END, 5,
       CASE WHEN status = 'PROCESSING' THEN '00000000-0000-0000-0000-00000000000b'::uuid END, 2,
       CASE WHEN status = 'PROCESSING' THEN 'b' ELSE '' END,
       CASE WHEN status = 'PROCESSING' THEN timestamptz '2027-03-01' END,
       CASE WHEN status = 'PROCESSING' THEN timestamptz '2026-03-01' END, 'first-plan'
FROM unnest(ARRAY['PENDING', 'UPLOADED', 'PROCESSING', 'READY', 'FAILED']) WITH ORDINALITY AS kind (status, n);
INSERT INTO video_attempt (token, video_id, epoch, host, worker, started_at)
SELECT coalesce(lease_token, gen_random_uuid()), id, 2, 'h', 'w', '2026-02-01' FROM video;
INSERT INTO video_attempt (token, video_id, epoch, host, worker, started_at, ended_at, outcome)
SELECT gen_random_uuid(), id, 1, 'h', 'w', '2026-01-01', '2026-01-01', 'retried' FROM video;
INSERT INTO video_plan (video_id, fingerprint, build, plan, created_at)
SELECT id, 'first-plan', 'another ffmpeg', '{}', '2026-01-01' FROM video;
INSERT INTO video_chunk (video_id, plan, number, state, token, epoch, worker, leased_until, objects)
SELECT id, 'first-plan', n, state, CASE WHEN state <> 'TODO' THEN gen_random_uuid() END, 2, 'w',
       CASE WHEN state = 'RUNNING' THEN timestamptz '2027-03-01' END, CASE WHEN state = 'DONE' THEN '{}'::jsonb END
FROM video, unnest(ARRAY['DONE', 'RUNNING', 'TODO']) WITH ORDINALITY AS kind (state, n);
"""
#: xmax tells that a row was locked, xmin that it was written, although it reads the same.
BYSTANDERS = """
SELECT (SELECT json_agg(row_to_json(v)::text || v.xmin || '/' || v.xmax ORDER BY id) FROM video AS v WHERE id > 1000000)
       ::text AS videos,
       (SELECT json_agg(a ORDER BY token) FROM video_attempt AS a WHERE video_id > 1000000)::text AS attempts,
       (SELECT json_agg(row_to_json(c)::text || c.xmin ORDER BY video_id, number)
        FROM video_chunk AS c WHERE video_id > 1000000)::text AS chunks,
       (SELECT ticked_at FROM reconcile_tick WHERE video_table = 'other') AS tick
"""
#: Times as seconds from the clock's now, so that a scene compares a whole row with what it expects.
ROW = """
SELECT status, lease_token::text AS token, lease_epoch AS epoch, leased_by, plan,
       extract(epoch FROM leased_until - value)::float8 AS lease_in,
       extract(epoch FROM value - leased_at)::float8 AS held,
       extract(epoch FROM value - renewed_at)::float8 AS renewed_ago,
       extract(epoch FROM run_after - value)::float8 AS due_in,
       extract(epoch FROM next_ring_at - value)::float8 AS ring_in,
       ring_count AS rings, failure_count AS failures, loss_count AS losses,
       cancel_requested_at IS NOT NULL AS cancel, error_code AS code, coalesce(error_reason, '') AS reason, hls_path
FROM video, clock.time WHERE id = %s
"""
#: What a row looks like that nobody holds and that has no past.
BARE: dict[str, Any] = {
    **dict.fromkeys(("token", "plan", "lease_in", "held", "renewed_ago", "due_in", "ring_in", "code")),
    **dict.fromkeys(("epoch", "rings", "failures", "losses"), 0),
    **dict.fromkeys(("leased_by", "reason", "hls_path"), ""),
    "status": "UPLOADED",
    "cancel": False,
}


@dataclass
class Run:
    """What came of a call that met another's transaction. `waited`: for the other's lock."""

    waited: bool
    answer: Any = None
    error: Exception | None = None


class Scene:
    """`database` carries the statements under test; `admin` looks; `rival` holds transactions open."""

    def __init__(self, dsn: str) -> None:
        self.admin, self.rival = Admin(dsn), Admin(dsn)
        self.admin(f"DROP SCHEMA IF EXISTS clock CASCADE; {CLOCK}")
        self.admin("SET search_path TO clock, pg_catalog, public")
        self.rival("SET search_path TO clock, pg_catalog, public")
        self.database = Database(dsn, application_name="scene", search_path=CLOCK_PATH)
        self.leases = make_leases(self.database, locked_wait_seconds=0.0)
        self.chunks = Chunks(self.database, chunk_lease_seconds=CHUNK_LEASE_SECONDS)
        self.sweeps = Sweeps(self.database, max_losses=MAX_LOSSES)
        self.database.ping()
        self._backend = self.database._connection.info.backend_pid
        self._before: list[dict[str, Any]] = []
        self._scenes = 0

    def close(self) -> None:
        self.database.close()
        self.admin.connection.close()
        self.rival.connection.close()

    def reset(self) -> None:
        """New bystanders only when the last ones were touched, or when too many dead rows lie between them."""
        self.rival("ROLLBACK")
        self._scenes += 1
        if self._scenes % 100 == 0 or self.admin(BYSTANDERS) != self._before:
            self.admin(NEIGHBOURHOOD)
            self._before = self.admin(BYSTANDERS)
        self.admin(RESET)

    def assert_bystanders(self) -> None:
        assert self.admin(BYSTANDERS) == self._before, "somebody else's row was touched"

    # ---- what happens

    def submit(self, **settings: Any) -> int:
        return self.leases.submit("a.mp4", 3, **settings)

    def claim(self, video_id: int, worker: Worker = WORKER) -> Lease:
        return claimed(self.leases, video_id, worker)

    def owned(self) -> Lease:
        return self.claim(self.submit())

    def cut(self, plan: Plan = PLAN) -> Lease:
        """A video that is owned, with chunks 0, 1 and 2 to do."""
        lease = self.owned()
        self.chunks.adopt(lease, plan, BUILD)
        return lease

    def take(self, lease: Lease) -> ChunkLease | None:
        return self.chunks.claim_chunk(lease, uuid.uuid4())

    def assist(self, build: str = BUILD) -> Assist | None:
        """Whoever asked before whether help is wanted was told the truth."""
        wanted = self.chunks.help_wanted(build)
        found = self.chunks.claim_assist(HELPER, uuid.uuid4(), build)
        assert wanted == (found is not None)
        return found

    def hand(self, video_id: int, assignments: str) -> None:
        """The platform, or a person with psql, writes the row and nothing else."""
        self.admin(f"UPDATE video SET {assignments} WHERE id = %s", video_id)

    def advance(self, seconds: float) -> None:
        self.admin("UPDATE clock.time SET value = value + make_interval(secs => %s)", seconds)

    def twin(self, video_id: int) -> int:
        """The platform copied the row with its token, and somebody its plan and chunks."""
        (row,) = self.admin("SELECT nextval(pg_get_serial_sequence('video', 'id')) AS id")
        for table, key in (("video", "id"), ("video_plan", "video_id"), ("video_chunk", "video_id")):
            self.admin(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object('{key}', {row['id']}))).*"
                f" FROM {table} AS t WHERE {key} = {video_id}"
            )
        return int(row["id"])

    def beside(self, held: str, call: Callable[[], Any], *, end: str = "COMMIT") -> Run:
        """`call`, while the rival has executed `held` in a transaction that it ends when the call waits, or is over."""
        self.rival("BEGIN")
        self.rival(held)
        done: Future[Any] = Future()

        def work() -> None:
            try:
                done.set_result(call())
            except Exception as error:  # noqa: BLE001 — handed on
                done.set_exception(error)

        thread = threading.Thread(target=work)
        thread.start()
        waited = False
        while not done.done() and not waited:
            waited = bool(self.admin("SELECT cardinality(pg_blocking_pids(%s)) AS n", self._backend)[0]["n"])
        if waited:
            self.rival(end)
        thread.join()
        self.rival(end)
        error = done.exception()
        assert error is None or isinstance(error, Exception)
        return Run(waited, None if error else done.result(), error)

    # ---- what is seen

    def row(self, video_id: int) -> dict[str, Any]:
        return self.admin(ROW, video_id)[0]

    def expect(self, video_id: int, **expected: Any) -> None:
        """The whole row, apart from what lies in the eye of no guard."""
        wanted = {
            **BARE,
            **{name: str(value) if isinstance(value, UUID) else value for name, value in expected.items()},
        }
        assert self.row(video_id) == wanted

    def expect_held(self, lease: Lease, **expected: Any) -> None:
        """As it was claimed a moment ago."""
        held = {"due_in": 0, "ring_in": 0, "lease_in": 180, "held": 0, "renewed_ago": 0, "leased_by": lease.worker.name}
        wanted = {"status": "PROCESSING", "token": lease.token, "epoch": lease.epoch, **held, **expected}
        self.expect(lease.video_id, **wanted)

    def outcomes(self, video_id: int) -> list[str | None]:
        """How its attempts ended, by epoch; None: open."""
        return [row["outcome"] for row in self.admin.attempts(video_id)]

    def states(self, video_id: int, plan: str = "first-plan") -> list[str]:
        return [row["state"] for row in self.admin.chunks(video_id) if row["plan"] == plan]

    def seen(self, video_id: int) -> list[Any]:
        """Everything about a video: equal before and after means that nothing was written."""
        return [
            self.admin(
                f"SELECT *, xmin::text, {named}::text AS key FROM {table} WHERE {named} = %s ORDER BY 1, 2, 3", video_id
            )
            for table, named in (("video", "id"), ("video_attempt", "video_id"), ("video_chunk", "video_id"))
        ]
