"""The schema: on an empty database, on a platform's own table, from many hosts at once."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from appliance.adapters.postgres import migrate as migrate_module
from appliance.adapters.postgres.chunks import Chunks
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.migrate import migrate
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.statements import sql_files, statements
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.domain.errors import ConfigError, Unavailable
from appliance.domain.retry import Decision
from appliance.domain.video import ClaimMiss, Status
from tests.adapters.postgres.stage import WORKER, Admin, claimed
from tests.adapters.postgres.test_chunks import OBJECTS, PLAN, take

FILES = [file.name for file in sql_files("schema")]
#: The seed's model as Django makes it: NOT NULL texts, no tenant, an index on leased_until; and a few columns whose
#: names our statements use for something else.
PLATFORM = """
CREATE TABLE "Support_Video" (
    id bigserial PRIMARY KEY,
    session_id bigint,
    title varchar(255) NOT NULL DEFAULT '',
    "order" integer NOT NULL DEFAULT 0,
    status varchar(20) NOT NULL,
    file_key varchar(500) NOT NULL,
    hls_path varchar(500) NOT NULL DEFAULT '',
    duration integer,
    error_reason text NOT NULL DEFAULT '',
    leased_by varchar(64) NOT NULL DEFAULT '',
    leased_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    note text, outcome text, final boolean, held integer, token text, number integer, state text
);
CREATE INDEX support_video_status ON "Support_Video" (status);
CREATE INDEX support_video_lease ON "Support_Video" (leased_until, status);
INSERT INTO "Support_Video" (status, file_key) SELECT 'READY', 'old/' || n FROM generate_series(1, 50) AS n;
INSERT INTO "Support_Video" (status, file_key) VALUES ('UPLOADED', 'new.mp4'), ('ARCHIVED', 'kept.mp4');
INSERT INTO "Support_Video" (status, file_key, leased_by) VALUES ('PROCESSING', 'stuck.mp4', 'old-worker');
"""
TABLE = "Support_Video"


@pytest.fixture
def empty(empty_dsn: str) -> Iterator[Admin]:
    admin = Admin(empty_dsn)
    yield admin
    admin.connection.close()


@pytest.fixture
def platform(empty: Admin) -> Admin:
    empty(PLATFORM)
    return empty


@contextlib.contextmanager
def opened(dsn: str, table: str) -> Iterator[Database]:
    database = Database(dsn, application_name="test", table=table)
    yield database
    database.close()


def columns(admin: Admin, table: str) -> dict[str, dict]:
    rows = admin("SELECT * FROM information_schema.columns WHERE table_name = %s", table)
    return {row["column_name"]: row for row in rows}


def test_every_file_is_applied_once_in_order(empty_dsn) -> None:
    assert migrate(empty_dsn, table="video") == FILES
    assert migrate(empty_dsn, table="video") == []


def test_many_hosts_at_once_apply_each_file_once(empty_dsn) -> None:
    with ThreadPoolExecutor(6) as hosts:
        applied = [name for names in hosts.map(lambda _: migrate(empty_dsn, table="video"), range(6)) for name in names]
    assert sorted(applied) == FILES


def test_two_tables_of_one_database_do_not_meet(empty_dsn, empty) -> None:
    assert migrate(empty_dsn, table="video") == migrate(empty_dsn, table="films") == FILES
    with opened(empty_dsn, "films") as films, opened(empty_dsn, "video") as videos:
        leases = Leases(films, lease_seconds=180, max_losses=3)
        claimed(leases, leases.submit("a.mp4", 1))
        assert len(empty("SELECT * FROM films_attempt")) == 1
        assert Reports(videos).backlog().by_status == {"UPLOADED": 0, "PROCESSING": 0}
        assert Sweeps(films, max_losses=3).win_tick("a", 15).won
        assert Sweeps(videos, max_losses=3).win_tick("a", 15).won


def test_our_own_table_refuses_a_status_that_does_not_exist(empty_dsn, empty) -> None:
    migrate(empty_dsn, table="video")
    with pytest.raises(psycopg2.errors.CheckViolation):
        empty("INSERT INTO video (file_key, status) VALUES ('a', 'ARCHIVED')")
    for status in Status:
        empty("INSERT INTO video (file_key, status) VALUES ('a', %s)", str(status))


def test_adopting_adds_columns_and_changes_nothing_else(empty_dsn, platform) -> None:
    shape = "SELECT relfilenode, reloptions FROM pg_class WHERE relname = %s"
    constraints = "SELECT conname FROM pg_constraint WHERE conrelid = '\"Support_Video\"'::regclass ORDER BY 1"
    before, rules, had = platform(shape, TABLE), platform(constraints), columns(platform, TABLE)
    assert migrate(empty_dsn, table=TABLE) == FILES
    assert platform(shape, TABLE) == before  # not rewritten
    assert [row for row in platform(constraints) if not row["conname"].endswith("_not_null")] == [
        row for row in rules if not row["conname"].endswith("_not_null")
    ]
    now = columns(platform, TABLE)
    assert {name: now[name] for name in had} == had
    added = [now[name] for name in now.keys() - had.keys()]
    assert "tenant_id" in now.keys() - had.keys()
    assert all(column["is_nullable"] == "YES" or column["column_default"] for column in added)
    indexes = {row["indexname"] for row in platform("SELECT indexname FROM pg_indexes WHERE tablename = %s", TABLE)}
    assert {"support_video_status", "support_video_lease", "Support_Video_due"} <= indexes
    platform("""INSERT INTO "Support_Video" (status, file_key) VALUES ('PENDING', 'the platform goes on')""")


def test_an_adopted_table_is_worked_like_our_own(empty_dsn, platform) -> None:
    migrate(empty_dsn, table=TABLE)
    (new,) = platform("""SELECT id FROM "Support_Video" WHERE status = 'UPLOADED'""")
    with opened(empty_dsn, TABLE) as database:
        leases = Leases(database, lease_seconds=180, max_losses=3)
        chunks = Chunks(database, chunk_lease_seconds=60)
        sweeps = Sweeps(database, max_losses=3)
        assert [ring.video_id for ring in sweeps.due_rings(10, 60)] == [new["id"]]
        leases.abandon(leases.claim(new["id"], WORKER, uuid.uuid4(), tenant_id=9).token)
        lease = leases.claim_next(WORKER, uuid.uuid4())
        assert (lease.tenant_id, lease.loss_count) == (9, 1)
        leases.fail(lease, Decision("encode_failed", "why", 0.0), receipt={})
        lease = claimed(leases, new["id"])
        leases.release(lease, reason="drain", receipt={})
        lease = claimed(leases, new["id"])
        chunks.adopt(lease, PLAN, "ffmpeg-9")
        chunks.done(take(chunks, lease), OBJECTS)
        assert chunks.claim_assist(WORKER, uuid.uuid4(), "ffmpeg-9").chunk.number == 1
        assert leases.renew(lease) is False
        leases.complete(lease, hls_path="hls/1/master.m3u8", duration_seconds=17.09, receipt={})
        shown = Reports(database).show(new["id"])
    assert (shown["status"], shown["duration"], shown["leased_by"]) == ("READY", 17, "")
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["abandoned", "retried", "released", "ready"]


def test_f20_a_stuck_row_of_the_former_system_is_found_after_adoption(empty_dsn, platform) -> None:
    migrate(empty_dsn, table=TABLE)
    with opened(empty_dsn, TABLE) as database:
        (reclaimed,) = Sweeps(database, max_losses=3).reclaim_expired(10)
    assert (reclaimed.file_key, reclaimed.prev_leased_by) == ("stuck.mp4", "old-worker")


def test_a_state_of_the_platforms_own_is_not_ours_to_claim(empty_dsn, platform) -> None:
    migrate(empty_dsn, table=TABLE)
    (kept,) = platform("""SELECT id FROM "Support_Video" WHERE status = 'ARCHIVED'""")
    with opened(empty_dsn, TABLE) as database:
        leases = Leases(database, lease_seconds=180, max_losses=3)
        assert leases.claim(kept["id"], WORKER, uuid.uuid4()) is ClaimMiss.UNKNOWN
        assert leases.cancel(kept["id"]) == "ignored"
        assert leases.resubmit(kept["id"]) is False


def test_the_platform_may_delete_a_video_that_was_encoded(empty_dsn, platform) -> None:
    migrate(empty_dsn, table=TABLE)
    with opened(empty_dsn, TABLE) as database:
        leases = Leases(database, lease_seconds=180, max_losses=3)
        lease = leases.claim_next(WORKER, uuid.uuid4())
        platform("""DELETE FROM "Support_Video" WHERE id = %s""", lease.video_id)
        assert leases.abandon(lease.token) is None


def test_an_index_whose_build_was_interrupted_is_built_again(empty_dsn, empty) -> None:
    migrate(empty_dsn, table="video")
    index = FILES[5]
    empty("DELETE FROM video_migration WHERE name = %s", index)
    empty("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'video_due'::regclass")
    assert migrate(empty_dsn, table="video") == [index]
    assert empty("SELECT indisvalid FROM pg_index WHERE indexrelid = 'video_due'::regclass") == [{"indisvalid": True}]


def test_a_busy_table_is_not_queued_for_and_the_next_run_goes_on(empty_dsn, platform, monkeypatch) -> None:
    monkeypatch.setattr(migrate_module, "LOCK_TIMEOUT", "50ms")
    platform("BEGIN")
    platform("""LOCK TABLE "Support_Video" IN ACCESS SHARE MODE""")
    with pytest.raises(Unavailable, match="lock timeout"):
        migrate(empty_dsn, table=TABLE)
    platform("COMMIT")
    assert migrate(empty_dsn, table=TABLE) == FILES[1:]


def test_another_hosts_migration_is_waited_for(empty_dsn, empty) -> None:
    empty(statements()["migrate_lock"].text.replace("%(table)s", "'video'"))
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        empty("SELECT pg_advisory_unlock_all()")

    assert migrate(empty_dsn, table="video", wait=wait) == FILES
    assert len(waits) == 1


def test_a_migration_that_never_ends_is_not_waited_for_without_end(empty_dsn, empty, monkeypatch) -> None:
    monkeypatch.setattr(migrate_module, "WAIT_SECONDS", -1.0)
    empty(statements()["migrate_lock"].text.replace("%(table)s", "'video'"))
    with pytest.raises(Unavailable, match="Another host"):
        migrate(empty_dsn, table="video")


@pytest.mark.parametrize(
    ("dsn", "error"), [("s3cret at nowhere", ConfigError), ("postgresql://u:s3cret@127.0.0.1:1/x", Unavailable)]
)
def test_f49_a_database_that_cannot_be_reached_is_told_without_its_password(dsn, error) -> None:
    with pytest.raises(error) as caught:
        migrate(dsn, table="video")
    assert "s3cret" not in str(caught.value)
