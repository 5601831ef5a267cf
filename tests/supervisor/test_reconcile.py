"""Who is dead: the decision on every kind of evidence, then whole passes on real PostgreSQL, Redis and SQS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import redis
import structlog

from appliance.adapters.redis import Telemetry
from appliance.domain.errors import Unavailable
from appliance.supervisor.reconcile import Report, Rules, missing, reconcile_once
from tests.supervisor.rows import TTL, WORKER, OldTelemetry, Rows, closing

MINE, OTHER = UUID(int=1), UUID(int=2)
BEATS, STRANGER, BARE, GARBAGE = (
    json.dumps({"token": str(MINE)}),
    json.dumps({"token": str(OTHER)}),
    "1",
    '{"token": 7}',
)


def row(renewed: float | None, token: UUID | None = MINE, tenant: int | None = 3) -> SimpleNamespace:
    return SimpleNamespace(video_id=7, tenant_id=tenant, token=token, renewed_seconds_ago=renewed)


@pytest.mark.parametrize(
    ("held", "heartbeat", "amnesty", "strict", "dead"),
    [
        # our row, guarded: the key and the database must both be silent
        (row(TTL + 1), None, False, False, True),
        (row(TTL - 1), None, False, False, False),
        (row(TTL + 1), None, True, False, False),
        (row(TTL + 1), BEATS, False, False, False),
        # F16: somebody else's heartbeat does not hide a death, and a bare or unreadable one is no evidence
        (row(TTL + 1), STRANGER, False, False, True),
        (row(TTL - 1), STRANGER, False, False, False),
        (row(TTL + 1), BARE, False, False, False),
        (row(TTL + 1), GARBAGE, False, False, False),
        # strict: no witness, no amnesty
        (row(1.0), None, False, True, True),
        (row(1.0), None, True, True, True),
        (row(1.0), STRANGER, False, True, True),
        (row(1.0), BEATS, False, True, False),
        (row(1.0), BARE, False, True, False),
        # not one of ours: the absent key alone
        (row(None), None, False, False, True),
        (row(None), None, True, False, True),
        (row(None, token=None), BARE, False, False, False),
        (row(None, token=None), STRANGER, False, False, False),
        # without a tenant there is no key to look at
        (row(TTL + 1, tenant=None), None, False, False, False),
        (row(None, tenant=None), None, False, True, False),
    ],
)
def test_missing_is_positive_evidence_only(held, heartbeat, amnesty, strict, dead):
    rules = Rules(heartbeat_ttl_seconds=TTL, first_ring_seconds=60.0, batch=10, strict=strict)
    assert missing(held, heartbeat, amnesty=amnesty, rules=rules) is dead


def test_strict_has_no_witness():
    assert Rules(TTL, 60.0, 10).witness_seconds == TTL
    assert Rules(TTL, 60.0, 10, strict=True).witness_seconds is None


RULES = Rules(heartbeat_ttl_seconds=TTL, first_ring_seconds=60.0, batch=100)
STRICT = replace(RULES, strict=True)


@pytest.fixture
def rows(dsn, redis_url, aws, queue_url) -> Iterator[Rows]:
    with closing(Rows(dsn, redis_url, aws, queue_url)) as rows:
        yield rows


def run(rows: Rows, rules: Rules = RULES, *, dry_run: bool = False) -> Report:
    return reconcile_once(rows.sweeps, rows.telemetry, rows.doorbell, rules, dry_run=dry_run)


def test_an_expired_lease_is_reclaimed_rung_once_and_said_word_for_word(rows):
    lease = rows.held()
    rows.expire(lease.video_id)
    until = rows.row(lease.video_id)["leased_until"]
    with structlog.testing.capture_logs() as logged:
        report = run(rows)
    assert report.lines == [
        f"RECLAIMED | video_id={lease.video_id} tenant_id=3 prev_leased_by=host-a:0:7 prev_leased_until={until}",
        f"RE_ENQUEUED | video_id={lease.video_id}",
        "Done: reclaimed=1 enqueued=1",
    ]
    assert [line["event"] for line in logged] == ["RECLAIMED", "RE_ENQUEUED"]
    assert (rows.row(lease.video_id)["status"], rows.messages()) == ("UPLOADED", [lease.video_id])
    assert run(rows).lines == ["Done: reclaimed=0 enqueued=0"]
    assert rows.messages() == []


def test_f02_a_missing_heartbeat_is_reclaimed_although_the_lease_is_good(rows):
    lease = rows.held()
    rows.silence(lease.video_id)
    report = run(rows)
    assert (report.by_reason, report.enqueued) == ({"lease": 0, "heartbeat": 1}, 1)
    assert rows.row(lease.video_id)["status"] == "UPLOADED"


def test_dry_run_prints_both_kinds_of_evidence_and_changes_nothing(rows):
    expired, silent, living = rows.held(), rows.held(), rows.held()
    rows.telemetry.beat(expired)
    rows.telemetry.beat(living)
    rows.expire(expired.video_id)
    rows.silence(silent.video_id)
    waiting = rows.waiting()
    before = rows.sql("SELECT * FROM video ORDER BY id"), rows.sql("SELECT * FROM reconcile_tick")
    report = run(rows, dry_run=True)
    untils = [rows.row(lease.video_id)["leased_until"] for lease in (expired, silent)]
    owner = "tenant_id=3 prev_leased_by=host-a:0:7"
    whose = [f"video_id={lease.video_id} {owner}" for lease in (expired, silent)]
    evidence = ["lease_expired=True no_heartbeat=False", "lease_expired=False no_heartbeat=True"]
    assert report.lines == [
        f"DRY-RUN reclaim | {whose[0]} prev_leased_until={untils[0]} {evidence[0]} force=True",
        f"DRY-RUN reclaim | {whose[1]} prev_leased_until={untils[1]} {evidence[1]} force=True",
        "Done: reclaimed=2 enqueued=0 (dry-run)",
    ]
    assert (rows.sql("SELECT * FROM video ORDER BY id"), rows.sql("SELECT * FROM reconcile_tick")) == before
    assert rows.messages() == []
    assert rows.row(waiting)["status"] == "UPLOADED"


def test_f20_a_row_without_an_end_of_its_lease_counts_as_expired(rows):
    video_id = rows.waiting()
    rows.sql("UPDATE video SET status = 'PROCESSING' WHERE id = %s", video_id)
    assert "lease_expired=True" in run(rows, dry_run=True).lines[0]
    assert run(rows).by_reason == {"lease": 1, "heartbeat": 0}


@pytest.mark.parametrize("key", [None, "1"])
def test_a_foreign_row_with_a_far_lease_is_reclaimed_by_the_absent_key_alone(rows, redis_url, key):
    video_id = rows.waiting()
    rows.sql("UPDATE video SET status = 'PROCESSING', leased_until = now() + interval '1 day' WHERE id = %s", video_id)
    if key:
        client = redis.Redis.from_url(redis_url)
        client.set(f"tenant:3:video:{video_id}:heartbeat", key)
        client.close()
    assert run(rows).reclaimed == (0 if key else 1)


def test_a_row_without_a_tenant_is_left_to_its_lease(rows):
    lease = rows.held(tenant_id=None)
    rows.silence(lease.video_id)
    assert run(rows, STRICT).reclaimed == 0
    rows.expire(lease.video_id)
    assert run(rows, STRICT).reclaimed == 1


def test_f16_an_old_owners_heartbeat_does_not_hide_the_new_owners_death(rows):
    old = rows.held()
    rows.expire(old.video_id)
    run(rows)
    new = rows.leases.claim(old.video_id, WORKER, uuid4())
    rows.telemetry.beat(old)
    rows.silence(old.video_id)
    assert run(rows).reclaimed == 1
    assert rows.row(old.video_id)["lease_token"] is None
    assert new.epoch == old.epoch + 1


def test_f22_with_redis_down_nobody_is_judged_by_heartbeat_and_leases_still_are(rows, redis_server):
    silent, expired = rows.held(), rows.held()
    rows.silence(silent.video_id)
    rows.expire(expired.video_id)
    redis_server.stop()
    try:
        report = run(rows, STRICT)
    finally:
        redis_server.start()
    assert report.by_reason == {"lease": 1, "heartbeat": 0}
    assert [error.dependency for error in report.errors] == ["redis"]
    assert rows.row(silent.video_id)["lease_token"] == str(silent.token)


def test_f22_a_redis_lost_between_two_pages_clears_the_rest(rows):
    leases = [rows.held() for _ in range(3)]
    for lease in leases:
        rows.silence(lease.video_id)
    asked = []

    class Failing(OldTelemetry):
        def heartbeats(self, videos):
            asked.append(videos)
            if len(asked) > 1:
                raise Unavailable("redis", "Redis does not answer.")
            return super().heartbeats(videos)

    rows.telemetry = rows.make_telemetry(Failing)
    report = run(rows, replace(RULES, batch=1))
    assert (report.reclaimed, len(asked), len(report.errors)) == (1, 2, 1)


def test_f22_a_flushed_redis_reclaims_nobody_who_renews(rows, redis_server):
    lease = rows.held()
    rows.telemetry.beat(lease)
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    client.close()
    assert run(rows).reclaimed == 0


def test_f22_a_redis_that_started_empty_gives_our_rows_amnesty(rows, redis_server):
    lease = rows.held()
    rows.silence(lease.video_id)
    redis_server.restart()
    rows.telemetry = rows.make_telemetry(Telemetry)
    assert run(rows).reclaimed == 0
    assert run(rows, STRICT).reclaimed == 1


def test_f14_a_row_that_completes_between_the_look_and_the_reclaim_stays_ready(rows):
    lease = rows.held()
    rows.silence(lease.video_id)
    finish = partial(rows.leases.complete, lease, hls_path="hls/1/master.m3u8", duration_seconds=3.0, receipt={})

    class Late(OldTelemetry):
        def heartbeats(self, videos):
            finish()
            return super().heartbeats(videos)

    rows.telemetry = rows.make_telemetry(Late)
    assert run(rows, STRICT).reclaimed == 0
    assert rows.row(lease.video_id)["status"] == "READY"


def test_f15_ten_ungated_reconcilers_reclaim_each_row_once(rows):
    expired, silent = [rows.held() for _ in range(10)], [rows.held() for _ in range(10)]
    for lease in expired:
        rows.expire(lease.video_id)
    for lease in silent:
        rows.silence(lease.video_id)

    def one() -> int:
        with closing(rows.again()) as own:
            return run(own).reclaimed

    with ThreadPoolExecutor(10) as crowd:
        totals = list(crowd.map(lambda _: one(), range(10)))
    assert sum(totals) == 20
    assert {row["loss_count"] for row in rows.sql("SELECT loss_count FROM video")} == {1}
    assert {row["outcome"] for row in rows.sql("SELECT outcome FROM video_attempt")} == {"reclaimed"}
    assert set(rows.messages()) == {lease.video_id for lease in expired + silent}


def test_f07_a_row_that_nobody_rang_is_swept_and_not_counted_as_enqueued(rows):
    video_id = rows.waiting()
    rows.sql("UPDATE video SET next_ring_at = now() - interval '1 s' WHERE id = %s", video_id)
    report = run(rows)
    assert (report.swept, report.lines) == (1, ["Done: reclaimed=0 enqueued=0"])
    assert rows.messages() == [video_id]
    assert run(rows).swept == 0


def test_f10_a_ring_that_failed_is_due_again_and_only_one_is_tried(rows):
    lease, waiting = rows.held(), [rows.waiting() for _ in range(3)]
    rows.expire(lease.video_id)
    rows.sql("UPDATE video SET next_ring_at = now() - interval '1 s' WHERE status = 'UPLOADED'")
    doorbell, tried = rows.doorbell, []

    class Broken:
        def ring(self, message):
            tried.append(message)
            raise Unavailable("sqs", "SQS does not answer.")

    rows.doorbell = Broken()
    report = run(rows)
    assert (report.reclaimed, report.enqueued, report.swept, len(tried)) == (1, 0, 0, 1)
    assert [error.dependency for error in report.errors] == ["sqs"]
    rows.doorbell = doorbell
    assert run(rows).swept == 4
    assert rows.messages() == sorted([lease.video_id, *waiting])


def test_a_video_that_lost_too_many_owners_is_reclaimed_but_not_rung(rows):
    lease = rows.held()
    rows.sql("UPDATE video SET loss_count = 4 WHERE id = %s", lease.video_id)
    rows.expire(lease.video_id)
    report = run(rows)
    assert (report.reclaimed, report.enqueued) == (1, 0)
    assert (rows.row(lease.video_id)["status"], rows.messages()) == ("FAILED", [])
