"""How PostgreSQL answers the statements that run all the time, on a table of 100,000 rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.adapters.postgres.connection import Database, _plain
from appliance.adapters.postgres.leases import Leases, losing
from appliance.adapters.postgres.migrate import migrate
from appliance.domain.video import Lease
from tests.adapters.postgres.stage import WORKER, Admin

#: Most are finished; 5,000 are due, 5,000 wait for their time, 300 are being encoded, each at its 31st chunk of 60.
ROWS = """
INSERT INTO video (file_key, tenant_id, status, run_after, next_ring_at, leased_until, renewed_at, lease_token,
                   plan)
SELECT 'videos/' || n || '.mp4', n % 20, status,
       CASE WHEN status = 'UPLOADED' THEN now() + (n % 2 * 2 - 1) * interval '1 hour' END,
       CASE WHEN status = 'UPLOADED' AND n > 20 THEN now() + interval '1 hour' END,
       CASE WHEN status = 'PROCESSING' THEN now() + interval '3 min' END,
       CASE WHEN status = 'PROCESSING' THEN now() END,
       CASE WHEN status = 'PROCESSING' THEN gen_random_uuid() END, CASE WHEN status = 'PROCESSING' THEN 'p' END
FROM generate_series(1, 100000) AS n,
     LATERAL (
         SELECT CASE WHEN n <= 10000 THEN 'UPLOADED' WHEN n <= 10300 THEN 'PROCESSING' ELSE 'READY' END
     ) AS kind (status);
INSERT INTO video_attempt (token, video_id, epoch, host, worker, started_at)
SELECT coalesce(lease_token, gen_random_uuid()), id, 0, 'h', 'w', now() FROM video WHERE id > 10000 AND id < 20000;
INSERT INTO video_plan SELECT id, 'p', 'build', '{}', now() FROM video WHERE status = 'PROCESSING';
INSERT INTO video_chunk (video_id, plan, number, state, token, worker, leased_until, objects)
SELECT v.id, 'p', n, state, CASE WHEN n <= 30 THEN gen_random_uuid() END, 'w:0:1',
       CASE WHEN state = 'RUNNING' THEN now() + interval '1 min' END, CASE WHEN state = 'DONE' THEN '{}'::jsonb END
FROM video AS v, generate_series(0, 59) AS n,
     LATERAL (SELECT CASE WHEN n < 30 THEN 'DONE' WHEN n = 30 THEN 'RUNNING' ELSE 'TODO' END) AS kind (state)
WHERE v.status = 'PROCESSING';
"""
TAKING = {"leased_by": "w", "host": "h", "worker": "w", "lease_seconds": 180.0, "tenant_id": None}
#: statement → (parameters, indexes of the video table that must answer, buffers at most)
PLANS: dict[str, tuple[dict[str, Any], set[str], int]] = {
    "claim": ({"video_id": 7000, **TAKING}, {"video_pkey"}, 50),
    "claim_next": (TAKING, {"video_due", "video_pkey"}, 50),
    "look": ({"video_id": 50000}, {"video_pkey"}, 20),
    "renew": ({"video_id": 10001, "lease_seconds": 180.0}, {"video_held"}, 20),
    "complete": (
        {"video_id": 10001, "hls_path": "x", "duration_seconds": 1.0, "receipt": {}},
        {"video_held"},
        50,
    ),
    "abandon": ({"receipt": None, **losing(3)}, {"video_pkey"}, 50),
    "processing_page": ({"after_id": 0, "limit": 100}, {"video_held"}, 50),
    "reclaim_expired": ({"limit": 500, "receipt": None, **losing(3)}, {"video_held"}, 100),
    "at_work": ({"video_ids": [10001, 10002]}, {"video_held", "video_chunk_running", "video_chunk_pkey"}, 1000),
    "due_rings": ({"limit": 500, "first_ring_seconds": 60.0}, {"video_ring"}, 500),
}


@pytest.fixture(scope="module")
def large(stack, _template) -> Iterator[Admin]:
    """One table for all of them: what they write is rolled back."""
    stack.postgres.start()
    server = Admin(stack.postgres.dsn)
    server("CREATE DATABASE large_table")
    admin = Admin(stack.postgres.database_dsn("large_table"))
    migrate(stack.postgres.database_dsn("large_table"), table="video")
    admin(ROWS)
    admin("VACUUM ANALYZE")
    yield admin
    admin.connection.close()
    server("DROP DATABASE large_table WITH (FORCE)")
    server.connection.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("name", PLANS)
def test_the_named_index_answers_and_few_pages_are_touched(large, name) -> None:
    parameters, indexes, buffers = PLANS[name]
    (row,) = large("SELECT lease_token FROM video WHERE id = 10001")
    query = Database("", application_name="test")._statements[name][1].as_string(large.connection)
    values = {key: _plain(value) for key, value in parameters.items()}
    token = row["lease_token"] if name in ("renew", "complete", "abandon") else str(uuid.uuid4())
    with large.connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", {**values, "token": token})
        plan = cursor.fetchone()[0][0]["Plan"]
        cursor.execute("ROLLBACK")
    found = [node for node in nodes(plan) if node.get("Relation Name") == "video" or "Index Name" in node]
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    assert indexes <= {node.get("Index Name") for node in found}
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= buffers


def test_renewals_touch_no_index(large, stack) -> None:
    """At least 80 % are HOT; without an index on leased_until and with room on the pages."""
    database = Database(stack.postgres.database_dsn("large_table"), application_name="test")
    leases = Leases(database, lease_seconds=180.0, max_losses=3)
    held = large("SELECT id, lease_token FROM video WHERE status = 'PROCESSING' LIMIT 100")
    held_leases = [Lease(row["id"], 1, "", uuid.UUID(row["lease_token"]), 1, WORKER) for row in held]
    counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'video'"
    (before,) = large(counted)
    for _ in range(9):  # an encode of three minutes
        for lease in held_leases:
            leases.renew(lease)
    database._execute("SELECT pg_stat_force_next_flush()", {})
    database.close()
    large("SELECT pg_stat_clear_snapshot()")
    (after,) = large(counted)
    renewals = after["n_tup_upd"] - before["n_tup_upd"]
    assert renewals >= 900
    assert (after["n_tup_hot_upd"] - before["n_tup_hot_upd"]) / renewals >= 0.8
