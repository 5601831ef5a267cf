from __future__ import annotations

import json
import time

import pytest
import redis
from structlog.testing import capture_logs

from appliance.adapters.redis import Telemetry
from appliance.domain.errors import Cancelled, ChunkLost, Draining, LeaseLost, Transient
from appliance.domain.events import Booted, Counted, Progress
from appliance.domain.receipt import WARNING_CHARACTERS, WARNINGS
from appliance.domain.video import ChunkLease
from appliance.encoder import job as job_room
from appliance.encoder.drain import Drain
from appliance.encoder.job import Job
from tests.encoder.stage import Listener, a_lease

STEP = {"step_index": 3, "step_total": 5, "step_percent": 40.0}


@pytest.fixture
def drain():
    drain = Drain(60.0)
    yield drain
    drain.close()


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def telemetry(redis_url):
    telemetry = Telemetry(redis_url)
    yield telemetry
    telemetry.close()


@pytest.fixture
def job(drain, listener, telemetry):
    return Job(a_lease(), drain=drain, parent=listener.parent, telemetry=telemetry)


@pytest.fixture
def chunk(job):
    return ChunkLease(7, "plan", 1, job.lease.token)


def test_a_job_goes_on_while_nothing_is_wrong(job):
    job.check()
    job.may_begin(None)


def test_f13_a_lost_lease_ends_it_and_is_logged_and_counted_once(job, listener):
    with capture_logs() as lines:
        job.lose("The lease of video 7 is somebody else's.")
        job.lose("again")
    with pytest.raises(LeaseLost, match="somebody else's"):
        job.check()
    assert [(line["event"], line["log_level"]) for line in lines] == [("LEASE_LOST", "error")]
    assert listener.of(Counted) == [Counted("stale_writes_rejected")]


def test_f21_a_cancel_ends_it(job):
    job.cancel()
    with pytest.raises(Cancelled):
        job.check()


def test_a_lost_lease_comes_before_a_cancel_and_a_drain(job, drain):
    drain.note()
    drain.note()
    job.cancel()
    job.lose("lost")
    with pytest.raises(LeaseLost):
        job.check()


def test_what_the_heartbeat_says_is_passed_on(job):
    def watch():
        raise Transient("The heartbeat hangs.", code="internal_error")

    job.watch = watch
    with pytest.raises(Transient):
        job.check()


def test_f37_a_drain_lets_a_running_step_go_on_and_begins_what_fits(job, drain):
    drain.note()
    job.check()
    job.may_begin(30.0)
    with pytest.raises(Draining):
        job.may_begin(90.0)
    with pytest.raises(Draining):
        job.may_begin(None)


def test_f38_the_second_note_ends_everything(job, drain):
    drain.note()
    drain.note()
    with pytest.raises(Draining):
        job.check()


def test_a_lost_chunk_ends_it_until_it_is_let_go(job, chunk):
    job.hold(chunk)
    assert job.held() == [chunk]
    job.lose_chunk(chunk, "Somebody else encodes chunk 1.")
    assert job.held() == []
    with pytest.raises(ChunkLost):
        job.check()
    job.let_go(chunk)
    job.check()


def test_a_chunk_that_was_let_go_cannot_be_lost(job, chunk):
    job.hold(chunk)
    job.let_go(chunk)
    job.lose_chunk(chunk, "late")
    job.check()
    assert job.held() == []


def test_progress_goes_to_redis_and_to_the_parent(job, listener, redis_url):
    job.progress(41.26, "encode", **STEP, speed=2.5, fps=60.0, remaining_seconds=12.0)
    client = redis.Redis.from_url(redis_url)
    fields = json.loads(client.get("tenant:3:video:7:progress"))
    client.close()
    assert fields.pop("updated_at")
    assert fields == {
        "percent": 41.3,
        "step": "encode",
        "step_index": 3,
        "step_total": 5,
        "step_name": "encode",
        "step_percent": 40.0,
        "remaining_seconds": 12.0,
        "speed": 2.5,
        "fps": 60.0,
    }
    assert listener.of(Progress) == [Progress(7, 41.26, "encode", 2.5, 12.0)]


def test_progress_is_thinned_out_but_every_step_is_seen(job, listener, monkeypatch):
    for percent in (1, 2, 3):
        job.progress(percent, "fetch", **STEP)
    job.progress(4, "encode", **STEP)
    monkeypatch.setattr(job_room, "REPORT_SECONDS", 0)
    job.progress(5, "encode", **STEP)
    seen = [(event.percent, event.step) for event in listener.of(Progress)]
    assert seen == [(1, "fetch"), (4, "encode"), (5, "encode")]


def test_f22_progress_without_redis_does_not_reach_the_encode(job, listener, redis_server):
    redis_server.stop()
    job.progress(1, "fetch", **STEP)
    assert len(listener.of(Progress)) == 1
    redis_server.start()


def test_warnings_end_in_the_receipt_each_once_and_not_too_many(job):
    with capture_logs() as lines:
        for sentence in ["a", "a", *(f"{number}" * 500 for number in range(50))]:
            job.warn(sentence)
    warnings = job.bill()["warnings"]
    assert len(lines) == 52
    assert len(warnings) == WARNINGS
    assert warnings[0] == "a"
    assert max(map(len, warnings)) == WARNING_CHARACTERS


def test_the_bill_is_the_receipt_with_the_wall_time(job):
    job.receipt = job.receipt.plus(cpu_seconds=2.5)
    bill = job.bill()
    assert bill["cpu_seconds"] == 2.5
    assert bill["wall_seconds"] >= 0
    json.dumps(bill)


def test_what_the_pipeline_announces_reaches_the_parent(job, listener):
    job.announce(Booted(1))
    assert listener.events == [Booted(1)]


def test_waiting_is_cut_short_by_a_signal(job, drain):
    drain.note()
    began = time.monotonic()
    job.wait(60)
    assert time.monotonic() - began < 30
