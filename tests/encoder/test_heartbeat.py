"""The heartbeat thread on real PostgreSQL and Redis; hangs and deaths are the only things played."""

from __future__ import annotations

import json
import threading
import uuid

import pytest
import redis
from structlog.contextvars import bound_contextvars

from appliance.adapters.redis import Telemetry
from appliance.domain.errors import Cancelled, ChunkLost, LeaseLost, Transient
from appliance.domain.events import EXIT_HEARTBEAT, Counted, Settled
from appliance.domain.video import ChunkLease, Worker
from appliance.encoder.drain import Drain
from appliance.encoder.heartbeat import Heartbeat, Rhythm
from appliance.encoder.job import Job
from appliance.wiring import adapters
from tests.encoder.stage import Listener, encoder, until
from tests.encoder.works import STREAM, linger

RHYTHM = Rhythm(renew_seconds=0.05, silent_seconds=20.0, grace_seconds=0.05)


@pytest.fixture
def database(world):
    database = adapters.database(world.config, "test")
    yield database
    database.close()


@pytest.fixture
def leases(world, database):
    return adapters.leases(world.config, database)


@pytest.fixture
def lease(world, leases):
    return leases.claim(world.video(), Worker("host-a", "host-a:0"), uuid.uuid4())


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def telemetry(redis_url):
    telemetry = Telemetry(redis_url, timeout_seconds=0.5, heartbeat_ttl_seconds=5)
    yield telemetry
    telemetry.close()


@pytest.fixture
def job(lease, listener, telemetry):
    drain = Drain(20.0)
    yield Job(lease, drain=drain, parent=listener.parent, telemetry=telemetry)
    drain.close()


@pytest.fixture
def raw(redis_url):
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def heartbeat(world, listener, telemetry):
    database = adapters.database(world.config, "heartbeat")
    yield Heartbeat(
        adapters.leases(world.config, database),
        adapters.chunks(world.config, database),
        telemetry,
        rhythm=RHYTHM,
        parent=listener.parent,
    )
    database.close()


class Played:
    """Leases whose renewals are played by the test."""

    def __init__(self, renew):
        self.renew = renew


def played(renew, telemetry, listener, rhythm=RHYTHM):
    return Heartbeat(Played(renew), None, telemetry, rhythm=rhythm, parent=listener.parent)


def test_it_renews_the_lease_and_beats_until_the_job_ends(world, heartbeat, job, raw):
    world.query("UPDATE video SET leased_until = now(), renewed_at = NULL")
    key = f"tenant:3:video:{job.lease.video_id}:heartbeat"
    with heartbeat.beating(job):
        until(lambda: world.row(job.lease.video_id)["renewed_at"], "a renewal")
        value = until(lambda: raw.get(key), "a beat")
        job.check()
        left = world.query("SELECT extract(epoch FROM leased_until - now())::float8 AS seconds FROM video")
    assert 5 < left[0]["seconds"] <= 9
    assert json.loads(value)["token"] == str(job.lease.token)
    assert raw.get(key) is None
    assert not heartbeat.stuck


def test_renewals_are_counted(heartbeat, job, listener):
    with heartbeat.beating(job):
        until(lambda: listener.events.count(Counted("lease_renewals")) >= 2, "two renewals")


def test_f21_a_cancel_reaches_the_job_with_a_renewal(world, heartbeat, job):
    with heartbeat.beating(job):
        job.check()
        world.query("UPDATE video SET cancel_requested_at = now()")
        with pytest.raises(Cancelled):
            until(job.check, "the cancel")


def test_f13_a_lost_lease_reaches_the_job_and_another_owners_heartbeat_stays(world, heartbeat, job, raw):
    key = f"tenant:3:video:{job.lease.video_id}:heartbeat"
    with heartbeat.beating(job):
        until(lambda: raw.get(key), "a beat")
        world.query("UPDATE video SET lease_token = %s", str(uuid.uuid4()))
        with pytest.raises(LeaseLost):
            until(job.check, "the loss")
        until(lambda: raw.get(key) is None, "the end of its own heartbeat")
        raw.set(key, '{"token":"somebody else\'s"}')
    assert raw.get(key) == '{"token":"somebody else\'s"}'


def test_a_loss_while_the_end_is_being_written_is_no_news(world, heartbeat, job):
    with heartbeat.beating(job):
        job.settling = True
        world.query("UPDATE video SET lease_token = NULL, status = 'READY'")
        until(lambda: not any(thread.name == "heartbeat" for thread in threading.enumerate()), "the thread's end")
    assert job._lost == ""


def test_held_chunks_are_renewed_and_a_lost_one_reaches_the_job(world, heartbeat, job):
    video_id = job.lease.video_id
    world.query("UPDATE video SET plan = 'plan'")
    world.query("INSERT INTO video_plan VALUES (%s, 'plan', 'build', '{}', now())", video_id)
    token = str(uuid.uuid4())
    world.query(
        "INSERT INTO video_chunk (video_id, plan, number, state, token, epoch, leased_until)"
        " VALUES (%s, 'plan', 1, 'RUNNING', %s, 1, now())",
        video_id,
        token,
    )
    chunk = ChunkLease(video_id, "plan", 1, uuid.UUID(token))
    renewed = "SELECT leased_until > now() + interval '3 seconds' AS renewed FROM video_chunk"
    job.hold(chunk)
    with heartbeat.beating(job):
        until(lambda: world.query(renewed)[0]["renewed"], "the chunk's renewal")
        job.check()
        world.query("UPDATE video_chunk SET token = %s", str(uuid.uuid4()))
        with pytest.raises(ChunkLost):
            until(job.check, "the chunk's loss")
        job.let_go(chunk)
        job.check()


def test_a_chunk_that_is_done_before_it_is_let_go_is_not_lost(world, job, telemetry, listener):
    """`done` commits, and a renewal comes between it and `let_go`."""
    chunk = ChunkLease(job.lease.video_id, "plan", 1, uuid.uuid4())
    asked = []

    class Done:
        def renew_chunk(self, _chunk):
            asked.append(1)
            job.let_go(chunk)
            raise LeaseLost("The chunk is not ours.")

    job.hold(chunk)
    heartbeat = Heartbeat(Played(lambda _lease: False), Done(), telemetry, rhythm=RHYTHM, parent=listener.parent)
    with heartbeat.beating(job):
        until(lambda: asked, "a renewal")
        before = listener.events.count(Counted("lease_renewals"))
        until(lambda: listener.events.count(Counted("lease_renewals")) > before, "another turn")
        job.check()


def test_f24_a_database_that_is_down_is_no_reason_to_stop(world, postgres, heartbeat, job, listener, raw):
    with heartbeat.beating(job):
        until(lambda: Counted("lease_renewals") in listener.events, "a renewal")
        postgres.stop()
        key = f"tenant:3:video:{job.lease.video_id}:heartbeat"
        raw.delete(key)
        until(lambda: raw.get(key), "a beat without a database")
        job.check()
        postgres.start()
        before = listener.events.count(Counted("lease_renewals"))
        until(lambda: listener.events.count(Counted("lease_renewals")) > before, "a late renewal")
        job.check()


def test_f22_a_redis_that_is_down_is_no_reason_to_stop(redis_server, heartbeat, job, listener):
    with heartbeat.beating(job):
        redis_server.stop()
        before = listener.events.count(Counted("lease_renewals"))
        until(lambda: listener.events.count(Counted("lease_renewals")) > before + 1, "renewals without Redis")
        job.check()
        redis_server.start()


def test_f17_a_heartbeat_that_died_stops_the_job(job, telemetry, listener):
    def renew(_lease):
        raise ZeroDivisionError

    with played(renew, telemetry, listener).beating(job), pytest.raises(Transient) as raised:
        until(job.check, "the alarm")
    assert raised.value.code == "internal_error"


def test_f17_a_heartbeat_that_hangs_stops_the_job_and_is_known_to_be_stuck(job, telemetry, listener):
    released = threading.Event()
    rhythm = Rhythm(renew_seconds=0.05, silent_seconds=0.2, grace_seconds=0.05)

    def renew(_lease):
        released.wait(60)
        return False

    heartbeat = played(renew, telemetry, listener, rhythm)
    with heartbeat.beating(job), pytest.raises(Transient) as raised:
        until(job.check, "the alarm")
    assert "hangs" in raised.value.sentence
    assert heartbeat.stuck
    released.set()


def test_a_pause_of_the_whole_process_is_not_a_hang(job, telemetry, listener):
    """After a SIGCONT the first check sees an old heartbeat; the next turn of the thread clears the suspicion."""
    gate, turned = threading.Event(), threading.Event()
    rhythm = Rhythm(renew_seconds=0.01, silent_seconds=0.1, grace_seconds=20.0)

    def renew(_lease):
        gate.wait(60)
        turned.set()
        return False

    with played(renew, telemetry, listener, rhythm).beating(job):
        until(lambda: job.watch.__self__._suspected_at or job.check(), "the suspicion")
        gate.set()
        turned.wait(60)
        until(lambda: job.check() or job.watch.__self__._suspected_at is None, "the end of the suspicion")


def test_its_lines_carry_what_the_job_is_bound_to(world):
    video_id = world.video()
    with encoder(world, linger) as running:
        running.until_logged("JOB_WARNING")
        with bound_contextvars(video_id="the test's own"):
            world.query("UPDATE video SET lease_token = %s", str(uuid.uuid4()))
        line = running.until_logged("LEASE_LOST")
    assert (line["video_id"], line["tenant_id"], line["lease_epoch"]) == (video_id, 3, 1)


def test_f17_an_encoder_with_a_stuck_heartbeat_gives_its_job_back_and_makes_way(world, monkeypatch):
    released = threading.Event()

    def hang(_lease):
        released.wait(60)
        return False

    def work(job):
        until(job.check, "the alarm")
        return STREAM

    with encoder(world, work) as running:
        heartbeat = running.encoder._heartbeat
        monkeypatch.setattr(heartbeat, "_rhythm", Rhythm(renew_seconds=0.05, silent_seconds=0.2, grace_seconds=0.05))
        monkeypatch.setattr(heartbeat._leases, "renew", hang)
        video_id = world.video()
        until(lambda: running.status is not None, "the end")
        released.set()
    assert running.status == EXIT_HEARTBEAT
    assert [event.error_code for event in running.listener.of(Settled)] == ["internal_error"]
    assert (world.status(video_id), world.row(video_id)["failure_count"]) == ("UPLOADED", 1)
