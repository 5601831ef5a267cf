"""What people are shown."""

from __future__ import annotations

import json

import pytest

from appliance.adapters.postgres.reports import AtWork, Backlog, Reports
from appliance.domain.retry import Decision
from appliance.domain.video import Status
from tests.adapters.postgres.stage import claimed
from tests.adapters.postgres.test_chunks import PLAN, take


@pytest.fixture
def reports(database) -> Reports:
    return Reports(database)


def test_an_empty_backlog(reports) -> None:
    assert reports.backlog() == Backlog({"UPLOADED": 0, "PROCESSING": 0}, None)


def test_the_backlog_counts_what_waits_and_what_runs(leases, reports, admin, clock) -> None:
    leases.submit("a.mp4", 3)
    clock.advance(40)
    leases.submit("b.mp4", 3)
    claimed(leases, leases.submit("c.mp4", 3))
    admin("INSERT INTO video (file_key, status) VALUES ('d.mp4', 'READY')")
    assert reports.backlog() == Backlog({"UPLOADED": 2, "PROCESSING": 1}, 40.0)


def test_a_retry_that_is_not_due_waits_for_nobody(leases, reports) -> None:
    lease = claimed(leases, leases.submit("a.mp4", 3))
    leases.fail(lease, Decision("encode_failed", "why", 30.0), receipt={})
    assert reports.backlog() == Backlog({"UPLOADED": 1, "PROCESSING": 0}, None)


def test_a_video_is_shown_with_its_attempts_and_chunks(leases, chunks, reports) -> None:
    lease = claimed(leases, leases.submit("a.mp4", 3))
    leases.release(lease, reason="drain", receipt={"wall_seconds": 2})
    again = claimed(leases, lease.video_id)
    chunks.adopt(again, PLAN)
    chunks.done(take(chunks, again), {"prefix": "p"})
    shown = reports.show(lease.video_id)
    assert (shown["video_id"], shown["status"], shown["plan"]) == (lease.video_id, "PROCESSING", "first-plan")
    assert [(attempt["epoch"], attempt["outcome"]) for attempt in shown["attempts"]] == [(1, "released"), (2, None)]
    assert shown["attempts"][0]["receipt"] == {"wall_seconds": 2}
    assert [chunk["state"] for chunk in shown["chunks"]] == ["DONE", "TODO", "TODO", "TODO"]
    assert json.dumps(shown, default=str)


def test_an_unknown_video_shows_nothing(reports) -> None:
    assert reports.show(10**12) is None


def test_recent_attempts_come_latest_first_with_what_became_of_the_video(leases, reports, clock) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        lease = claimed(leases, leases.submit(name, 3))
        clock.advance(10)
    leases.complete(lease, hls_path="hls/x", duration_seconds=9.5, receipt={"wall_seconds": 3})
    recent = reports.recent(2)
    assert [row["file_key"] for row in recent] == ["c.mp4", "b.mp4"]
    assert (recent[0]["status"], recent[0]["outcome"], recent[0]["receipt"]) == ("READY", "ready", {"wall_seconds": 3})
    assert recent[1]["outcome"] is None


def test_the_newest_videos_come_first_with_their_last_attempt_or_none(leases, reports) -> None:
    done = claimed(leases, leases.submit("a.mp4", 3))
    leases.release(done, reason="drain", receipt={})
    leases.complete(claimed(leases, done.video_id), hls_path="hls/x", duration_seconds=9.5, receipt={})
    never = leases.submit("b.mp4", 4)
    found = reports.newest(10)
    assert [(row["video_id"], row["epoch"], row["outcome"]) for row in found] == [
        (never, None, None),
        (done.video_id, 2, "ready"),
    ]
    assert [row["video_id"] for row in reports.newest(1)] == [never]
    assert [row["video_id"] for row in reports.newest(10, Status.READY)] == [done.video_id]
    assert reports.newest(10, Status.PENDING) == []


def test_nobody_at_work(reports) -> None:
    assert reports.at_work([]) == AtWork([], {}, [])


def test_who_is_at_work_where_and_on_which_chunks(leases, chunks, reports, clock) -> None:
    lease = claimed(leases, leases.submit("a.mp4", 3))
    chunks.adopt(lease, PLAN)
    chunks.done(take(chunks, lease), {"prefix": "p"})
    take(chunks, lease)
    other = claimed(leases, leases.submit("b.mp4", 4))
    clock.advance(10)
    found = reports.at_work([lease.video_id, 10**12])
    assert (found.workers, found.hosts) == ([lease.worker.name], {lease.worker.host: 10.0})
    assert [(it["video_id"], it["tenant_id"], it["owner"]) for it in found.videos] == [
        (lease.video_id, 3, lease.worker.name)
    ]
    states = [(chunk["number"], chunk["state"], bool(chunk["worker"])) for chunk in found.videos[0]["chunks"]]
    assert [state for _, state, _ in states] == ["DONE", "RUNNING", "TODO", "TODO"]
    # a video without a plan has no map
    assert reports.at_work([other.video_id]).videos == []
    clock.advance(3600)
    assert reports.at_work([]).hosts == {}
