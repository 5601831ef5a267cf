"""The loop of one encoder, on real PostgreSQL, Redis and SQS: both ways of acknowledging, every end of a job."""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid
from dataclasses import replace

import psycopg2
import pytest

from appliance.adapters.postgres.connection import AmbiguousCommit
from appliance.domain.errors import Cancelled, NoRoom, SourceRejected, Transient, Unavailable
from appliance.domain.events import Booted, Claimed, Claiming, Counted, NotClaimed, Settled
from appliance.domain.message import LATER_SECONDS
from appliance.encoder import database as database_room
from appliance.encoder.process import Encoder
from tests.encoder.stage import PATIENCE_SECONDS, child, encoder, until
from tests.encoder.works import STREAM, in_chunks, linger, one_more_chunk, publish

BOTH = pytest.mark.parametrize("fast_ack", [True, False], ids=["fast_ack", "late_ack"])


@pytest.fixture(params=[True, False], ids=["fast_ack", "late_ack"])
def either(request, world):
    """The world with fast-ack and without."""
    return world.with_queue(fast_ack=request.param)


def asleep(monkeypatch):
    """No idle look at the table: what happens is the message's doing."""
    monkeypatch.setattr(Encoder, "_claim_next", lambda _: None)


def released(error):
    def work(_job):
        raise error

    return work


# --- the order of things ------------------------------------------------------------------------------------------


def test_with_fast_ack_the_message_is_deleted_before_the_claim(world, monkeypatch):
    asleep(monkeypatch)
    video_id = world.video()
    world.ring(video_id)
    seen = []

    def work(job):
        seen.append((world.status(video_id), world.depth()))
        return publish(job)

    with encoder(world, work) as running:
        running.until_logged("SQS_JOB_COMPLETED")
    assert seen == [("PROCESSING", (0, 0))]
    assert running.names(of=video_id) == [
        "SQS_MESSAGE_RECEIVED",
        "VIDEO_FAST_ACK_APPLIED",
        "VIDEO_CLAIMED",
        "handler.handle() returned",
        "SQS_MESSAGE_SETTLED",
        "SQS_JOB_COMPLETED",
    ]


def test_without_fast_ack_the_message_is_deleted_only_after_ready(world, monkeypatch):
    asleep(monkeypatch)
    world = world.with_queue(fast_ack=False)
    video_id = world.video()
    world.ring(video_id)
    seen = []

    def work(job):
        seen.append((world.status(video_id), world.depth()))
        return publish(job)

    with encoder(world, work) as running:
        running.until_logged("SQS_JOB_COMPLETED")
        assert world.depth() == (0, 0)
    assert seen == [("PROCESSING", (0, 1))]
    assert running.names(of=video_id) == [
        "SQS_MESSAGE_RECEIVED",
        "VIDEO_FAST_ACK_SKIPPED",
        "VIDEO_CLAIMED",
        "handler.handle() returned",
        "SQS_MESSAGE_SETTLED",
        "SQS_JOB_COMPLETED",
    ]
    assert running.lines("SQS_MESSAGE_SETTLED")[0]["settlement"] == "delete"


def test_the_fields_of_the_log_are_the_contract(either):
    video_id = either.video()
    either.ring(video_id)
    with encoder(either, publish) as running:
        running.until_status(video_id, "READY")
        running.until_logged("SQS_JOB_COMPLETED")
    (returned,) = running.lines("handler.handle() returned")
    assert returned["result"] == "ok"
    for line in running.log:
        if line.get("video_id") == video_id and line["event"] in {"VIDEO_CLAIMED", "SQS_JOB_COMPLETED"}:
            assert line["tenant_id"] == 3
            assert line["lease_epoch"] == 1
            assert "request_id" in line


def test_the_fast_ack_lines_carry_request_video_and_handle(world, monkeypatch):
    asleep(monkeypatch)
    video_id = world.video()
    world.ring(video_id)
    with encoder(world, publish) as running:
        received = running.until_logged("SQS_MESSAGE_RECEIVED")
        applied = running.until_logged("VIDEO_FAST_ACK_APPLIED")
    assert applied["video_id"] == video_id
    assert applied["request_id"] == received["request_id"] != ""
    assert len(applied["receipt_handle_suffix"]) == 12


def test_the_skipped_line_gives_the_seeds_reason(world, monkeypatch):
    asleep(monkeypatch)
    world.ring(world.video())
    with encoder(world.with_queue(fast_ack=False), publish) as running:
        assert running.until_logged("VIDEO_FAST_ACK_SKIPPED")["reason"] == "VIDEO_FAST_ACK=0"


def test_the_parent_hears_every_step_and_the_token_before_the_claim(world):
    video_id = world.video()
    with encoder(world, publish) as running:
        running.until_status(video_id, "READY")
        settled = until(lambda: running.listener.of(Settled), "Settled")[0]
    events = running.listener.events
    (claimed,) = running.listener.of(Claimed)
    assert isinstance(events[0], Booted)
    assert (claimed.video_id, claimed.tenant_id, claimed.epoch) == (video_id, 3, 1)
    assert claimed.waited_seconds >= 0
    assert events.index(Claiming(claimed.token)) < events.index(claimed) < events.index(settled)
    assert (settled.token, settled.outcome, settled.error_code) == (claimed.token, "ok", None)
    assert settled.receipt["wall_seconds"] > 0
    announced = {event.token for event in running.listener.of(Claiming)}
    ended = {event.token for event in running.listener.of(NotClaimed)} | {settled.token}
    assert announced == ended


def test_the_row_and_its_attempt_say_how_it_went(world):
    video_id = world.video()

    def work(job):
        job.receipt = job.receipt.plus(cpu_seconds=2.0)
        return publish(job)

    with encoder(world, work) as running:
        running.until_status(video_id, "READY")
    row = world.row(video_id)
    assert (row["hls_path"], row["duration"], row["leased_by"]) == (STREAM.hls_path, 12.5, "")
    (attempt,) = world.attempts(video_id)
    assert (attempt["outcome"], attempt["receipt"]["cpu_seconds"]) == ("ready", 2.0)


# --- every end of a job -------------------------------------------------------------------------------------------


def test_f04_a_duplicate_that_comes_later_is_skipped_as_ready(either, monkeypatch):
    asleep(monkeypatch)
    video_id = either.video()
    either.ring(video_id)
    either.ring(video_id)
    with encoder(either, publish) as running:
        running.until_logged("VIDEO_ALREADY_READY_SKIP")
        running.until_logged("handler.handle() returned", times=2)
        until(lambda: either.depth() == (0, 0), "an empty queue")
    assert [line["result"] for line in running.lines("handler.handle() returned")] == ["ok", "skip:ready"]
    assert len(either.attempts(video_id)) == 1


def test_f04_a_duplicate_of_a_running_job_leaves_it_alone(either):
    video_id = either.video()
    with encoder(either, linger) as first:
        first.until_logged("JOB_WARNING")
        row = either.row(video_id)
        either.ring(video_id)
        with encoder(either, publish) as second:
            assert second.until_logged("CLAIM_MISSED")["reason"] == "owned"
            second.until_logged("handler.handle() returned")
            until(lambda: either.depth() == (0, 0), "an empty queue")
        now = either.row(video_id)
        assert (now["lease_token"], now["lease_epoch"]) == (row["lease_token"], 1)
        first.drain.note()
        first.drain.note()


@pytest.mark.parametrize("status", ["PENDING", "FAILED", None])
def test_f05_a_doorbell_for_a_video_that_is_not_to_be_encoded_is_dropped(world, status):
    video_id = world.video(status) if status else 999_999
    world.ring(video_id)
    with encoder(world, publish) as running:
        missed = running.until_logged("CLAIM_MISSED")
        running.until_logged("SQS_MESSAGE_SETTLED")
        assert world.depth() == (0, 0)
    assert missed["reason"] == (status.lower() if status else "unknown")
    assert running.lines("handler.handle() returned")[0]["result"] == "skip:claim"
    if status:
        assert world.status(video_id) == status


def test_a_video_that_is_not_due_yet_is_dropped_for_the_sweep(world):
    video_id = world.video(run_after="2100-01-01")
    world.ring(video_id)
    with encoder(world, publish) as running:
        assert running.until_logged("CLAIM_MISSED")["reason"] == "not_due"
        until(lambda: world.depth() == (0, 0), "an empty queue")
    assert world.status(video_id) == "UPLOADED"


def test_f03_a_locked_row_comes_again_in_a_minute_without_fast_ack(world, monkeypatch):
    asleep(monkeypatch)
    quick = replace(world.config.lease, locked_wait_seconds=0.2)
    world = replace(world, config=replace(world.config, lease=quick)).with_queue(fast_ack=False)
    video_id = world.video()
    producer = psycopg2.connect(world.config.database.dsn)
    producer.cursor().execute("SELECT FROM video WHERE id = %s FOR UPDATE", (video_id,))
    world.ring(video_id)
    with encoder(world, publish) as running:
        assert running.until_logged("CLAIM_MISSED")["reason"] == "locked"
        assert running.until_logged("SQS_MESSAGE_SETTLED")["settlement"] == "later"
        assert world.depth() == (0, 1)
    producer.close()
    assert LATER_SECONDS == 60


def test_f03_a_row_that_is_committed_within_the_wait_is_claimed(world, monkeypatch):
    asleep(monkeypatch)
    video_id = world.video()
    producer = psycopg2.connect(world.config.database.dsn)
    producer.cursor().execute("UPDATE video SET file_key = 'b.mp4' WHERE id = %s", (video_id,))
    world.ring(video_id)
    commit = threading.Timer(0.3, producer.commit)
    with encoder(world, publish) as running:
        running.until_logged("SQS_MESSAGE_RECEIVED")
        commit.start()
        running.until_status(video_id, "READY")
    commit.join()
    producer.close()


def test_a_rejected_source_fails_at_once_with_its_sentence(world):
    video_id = world.video()
    world.ring(video_id)
    error = SourceRejected("There is no file a.mp4 in storage.", code="source_missing")
    with encoder(world, released(error)) as running:
        running.until_status(video_id, "FAILED")
        failed = running.until_logged("SQS_JOB_FAILED")
    assert (failed["error_code"], failed["error_reason"]) == ("source_missing", "There is no file a.mp4 in storage.")
    row = world.row(video_id)
    assert (row["error_code"], row["error_reason"]) == ("source_missing", "There is no file a.mp4 in storage.")
    (settled,) = running.listener.of(Settled)
    assert (settled.outcome, settled.error_code) == ("failed", "source_missing")
    assert world.attempts(video_id)[0]["receipt"]["wall_seconds"] >= 0


def test_a_transient_error_goes_back_with_a_backoff_and_the_row_schedules_it(either):
    video_id = either.video()
    either.ring(video_id)
    with encoder(either, released(Transient("ffmpeg ended with status 1."))) as running:
        running.until_logged("SQS_JOB_FAILED")
        until(lambda: either.depth() == (0, 0), "an empty queue")
    row = either.row(video_id)
    assert (row["status"], row["failure_count"], row["error_code"]) == ("UPLOADED", 1, "encode_failed")
    waits = either.query("SELECT extract(epoch FROM run_after - now())::float8 AS seconds FROM video")
    assert 20 < waits[0]["seconds"] <= 33


def test_the_last_attempt_fails_for_good(world):
    video_id = world.video(failure_count=4)
    with encoder(world, released(Transient("ffmpeg ended with status 1."))) as running:
        running.until_logged("SQS_JOB_FAILED")
    assert world.status(video_id) == "FAILED"


def test_a_mistake_of_ours_is_logged_with_its_traceback_and_ends_one_job_only(world):
    first = world.video()

    def work(job):
        if job.lease.video_id == first:
            raise ZeroDivisionError
        return publish(job)

    with encoder(world, work) as running:
        running.until_logged("SQS_JOB_FAILED")
        second = world.video()
        running.until_status(second, "READY")
    (line,) = running.lines("INTERNAL_ERROR")
    assert line["exc_info"]
    assert line["video_id"] == first
    assert world.row(first)["error_code"] == "internal_error"


def test_f21_a_cancel_stops_the_job_within_a_renewal(either):
    video_id = either.video()
    either.ring(video_id)
    with encoder(either, linger) as running:
        running.until_logged("JOB_WARNING")
        either.query("UPDATE video SET cancel_requested_at = now() WHERE id = %s", video_id)
        running.until_status(video_id, "FAILED")
        returned = running.until_logged("handler.handle() returned")
        until(lambda: either.depth() == (0, 0), "an empty queue")
    assert returned["result"] == "skip:cancel"
    assert either.row(video_id)["error_code"] == "cancelled"
    assert [event.outcome for event in running.listener.of(Settled)] == ["skip:cancel"]
    assert not running.lines("SQS_JOB_FAILED")


@pytest.mark.parametrize("error", [Transient("x"), NoRoom("x"), Cancelled("x")], ids=["retry", "release", "cancel"])
def test_f21_a_marked_row_ends_cancelled_however_its_job_ends(world, error):
    video_id = world.video()

    def work(_job):
        world.query("UPDATE video SET cancel_requested_at = now() WHERE id = %s", video_id)
        raise error

    with encoder(world, work) as running:
        returned = running.until_logged("handler.handle() returned")
    assert returned["result"] == "skip:cancel"
    assert (world.status(video_id), world.row(video_id)["error_code"]) == ("FAILED", "cancelled")


def test_f21_a_complete_that_comes_first_wins_over_a_cancel(world):
    video_id = world.video()

    def work(_job):
        world.query("UPDATE video SET cancel_requested_at = now() WHERE id = %s", video_id)
        return STREAM

    with encoder(world, work) as running:
        running.until_status(video_id, "READY")


def test_f13_a_lost_lease_writes_nothing_and_is_said_loudly_once(either, monkeypatch):
    video_id = either.video()
    either.ring(video_id)
    stranger = str(uuid.uuid4())
    with encoder(either, linger) as running:
        running.until_logged("JOB_WARNING")
        asleep(monkeypatch)
        either.query("UPDATE video SET lease_token = %s, lease_epoch = 2 WHERE id = %s", stranger, video_id)
        returned = running.until_logged("handler.handle() returned")
    assert returned["result"] == "lost"
    (lost,) = running.lines("LEASE_LOST")
    assert (lost["log_level"], lost["video_id"], lost["lease_epoch"]) == ("error", video_id, 1)
    row = either.row(video_id)
    assert (row["status"], str(row["lease_token"]), row["hls_path"]) == ("PROCESSING", stranger, "")
    assert [event.outcome for event in running.listener.of(Settled)] == ["lost"]
    assert Counted("stale_writes_rejected") in running.listener.events


def test_f13_a_complete_without_the_lease_publishes_nothing(world, monkeypatch):
    video_id = world.video()

    def work(_job):
        asleep(monkeypatch)
        world.query("UPDATE video SET lease_token = %s, lease_epoch = 2 WHERE id = %s", str(uuid.uuid4()), video_id)
        return STREAM

    with encoder(world, work) as running:
        returned = running.until_logged("handler.handle() returned")
    assert returned["result"] == "lost"
    assert (world.status(video_id), world.row(video_id)["hls_path"]) == ("PROCESSING", "")
    assert len(running.lines("LEASE_LOST")) == 1


@pytest.mark.parametrize("error", [NoRoom("The source needs more room."), Unavailable("s3", "S3 did not answer.")])
def test_what_is_no_fault_of_the_video_is_released_uncharged_and_due_later(either, error):
    video_id = either.video()
    either.ring(video_id)
    with encoder(either, released(error)) as running:
        returned = running.until_logged("handler.handle() returned")
        running.until_status(video_id, "UPLOADED")
    assert (returned["result"], returned["error_reason"]) == ("released", error.sentence)
    row = either.row(video_id)
    assert (row["failure_count"], row["loss_count"]) == (0, 0)
    waits = either.query("SELECT extract(epoch FROM run_after - now())::float8 AS seconds FROM video")
    assert 40 < waits[0]["seconds"] <= 66


# --- no message -----------------------------------------------------------------------------------------------------


def test_f01_a_row_that_nobody_rang_for_is_found_by_an_idle_encoder(world):
    with encoder(world, publish) as running:
        video_id = world.video()
        running.until_status(video_id, "READY")
        completed = running.until_logged("SQS_JOB_COMPLETED")
    assert completed["request_id"] is None
    assert not running.lines("SQS_MESSAGE_RECEIVED")


def test_due_rows_are_taken_one_after_the_other_by_priority(world):
    order = [world.video(priority=priority) for priority in (0, 5, 9)]
    done = []

    def work(job):
        done.append(job.lease.video_id)
        return publish(job)

    with encoder(world, work) as running:
        until(lambda: len(done) == 3, "three jobs")
        running.until_logged("SQS_JOB_COMPLETED", times=3)
    assert done == order[::-1]


# --- unreadable -----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("body", ["not json", '{"video_id": 7, "pad": "' + "x" * 20_000 + '"}'], ids=["text", "huge"])
def test_f09_an_unreadable_message_is_counted_kept_and_deleted_and_the_encoder_lives(world, aws, fast_ack, body):
    dead = aws.make_queue(f"dead-{uuid.uuid4().hex}")
    world = world.with_queue(fast_ack=fast_ack, dead_letter_url=dead)
    world.send(body)
    with encoder(world, publish) as running:
        running.until_logged("SQS_MESSAGE_UNREADABLE")
        video_id = world.video()
        running.until_status(video_id, "READY")
    assert world.depth() == (0, 0)
    assert world.sqs.receive_message(QueueUrl=dead)["Messages"][0]["Body"] == body
    assert running.listener.of(Counted).count(Counted("unreadable_messages")) == 1


def test_f09_an_unreadable_message_that_cannot_be_kept_is_not_deleted(world):
    world = world.with_queue(dead_letter_url=world.config.queue.url + "-missing")
    world.send("not json")
    with encoder(world, publish) as running:
        running.until_logged("SQS_MESSAGE_UNREADABLE")
        running.until_logged("DEPENDENCY_DOWN")
    assert world.depth() == (0, 1)


# --- outages --------------------------------------------------------------------------------------------------------


def test_f06_a_message_that_could_not_be_deleted_is_a_no_op_when_it_returns(world, monkeypatch):
    asleep(monkeypatch)
    video_id = world.video()
    world.ring(video_id)
    with encoder(world, publish) as running:
        doorbell = running.encoder._messages._doorbell
        monkeypatch.setattr(doorbell, "delete", released(Unavailable("sqs", "SQS did not answer.")))
        running.until_status(video_id, "READY")
        running.until_logged("VIDEO_FAST_ACK_FAILED")
        assert world.depth() == (0, 1)
        monkeypatch.undo()
        asleep(monkeypatch)
        world.ring(video_id)  # what SQS does when the visibility timeout is over
        running.until_logged("VIDEO_ALREADY_READY_SKIP")
    assert len(world.attempts(video_id)) == 1


@pytest.mark.parametrize("trouble", ["dead", "no queue"])
def test_f10_without_sqs_the_idle_claim_goes_on_and_the_outage_is_one_line(world, trouble):
    if trouble == "dead":
        dead = replace(world.config.aws, endpoint_url="http://127.0.0.1:1")
        world = replace(world, config=replace(world.config, aws=dead))
    else:
        world = world.with_queue(url=world.config.queue.url + "-missing")
    with encoder(world, publish) as running:
        running.until_logged("DEPENDENCY_DOWN")
        for _ in range(2):
            running.until_status(world.video(), "READY")
        until(lambda: sum(event.metric == "dependency_errors" for event in running.listener.of(Counted)) >= 3)
    assert len(running.lines("DEPENDENCY_DOWN")) == 1


def test_f23_nothing_is_taken_from_the_queue_while_the_database_does_not_answer(either, postgres, monkeypatch):
    monkeypatch.setattr(database_room, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr("appliance.encoder.process.FRESH_SECONDS", 0.2)
    asleep(monkeypatch)
    with encoder(either, publish) as running:
        until(lambda: running.listener.events, "the boot")
        postgres.stop()
        down = running.until_logged("DEPENDENCY_DOWN")
        until(lambda: running.listener.of(Counted).count(Counted("dependency_errors", labels=("postgres",))) >= 3)
        # A poll that was under way when the server went may still bring one message: it must not be acknowledged.
        for _ in range(3):
            either.ring(1)
        until(lambda: running.listener.of(Counted).count(Counted("dependency_errors", labels=("postgres",))) >= 6)
        assert sum(either.depth()) == 3
        assert not running.lines("VIDEO_FAST_ACK_APPLIED")
        postgres.start()
        running.until_logged("DEPENDENCY_BACK")
        video_id = either.video()
        either.ring(video_id)
        running.until_status(video_id, "READY")
    assert down["dependency"] == "postgres"
    assert len(running.lines("DEPENDENCY_DOWN")) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_f18_a_host_whose_clock_is_an_hour_off_holds_and_ends_its_lease_like_any_other(world, monkeypatch, hours):
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 3600 * hours)
    video_id = world.video()
    seen = threading.Event()

    def work(job):
        while not seen.wait(0.02):
            job.check()
        return STREAM

    held = "SELECT renewed_at > leased_at AS renewed, extract(epoch FROM leased_until - now()) AS left FROM video"
    with encoder(world, work) as running:
        until(lambda: world.query(held)[0]["renewed"], "a renewal")
        assert 0 < world.query(held)[0]["left"] <= world.config.lease.lease_seconds
        seen.set()
        running.until_status(video_id, "READY")
        assert running.lines("LEASE_LOST") == []
    assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["ready"]


def test_f23_a_database_that_is_restarted_under_a_job_costs_nothing(world, postgres):
    video_id = world.video()
    restarted = threading.Event()

    def work(_job):
        restarted.wait(30)
        return STREAM

    with encoder(world, work) as running:
        running.until_logged("VIDEO_CLAIMED")
        postgres.restart()
        restarted.set()
        running.until_status(video_id, "READY")
    assert len(world.attempts(video_id)) == 1


def test_f25_a_complete_waits_for_a_database_that_is_down(world, postgres):
    video_id = world.video()
    stopped = threading.Event()

    def work(_job):
        stopped.wait(30)
        return STREAM

    with encoder(world, work) as running:
        running.until_logged("VIDEO_CLAIMED")
        postgres.stop()
        stopped.set()
        until(lambda: running.listener.of(Counted).count(Counted("dependency_errors", labels=("postgres",))))
        postgres.start()
        running.until_status(video_id, "READY")
        running.until_logged("SQS_JOB_COMPLETED")
    assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["ready"]


def test_f11_a_claim_whose_answer_was_lost_is_still_the_claim(world, monkeypatch):
    asleep(monkeypatch)
    video_id = world.video()
    with encoder(world, publish) as running:
        leases = running.encoder._leases
        claim, lost = leases.claim, []

        def claim_and_lose_the_answer(*arguments, **named):
            answer = claim(*arguments, **named)
            if not lost:
                lost.append(answer)
                raise AmbiguousCommit("postgres", "The connection was lost during `claim`.")
            return answer

        monkeypatch.setattr(leases, "claim", claim_and_lose_the_answer)
        world.ring(video_id)
        running.until_status(video_id, "READY")
    (attempt,) = world.attempts(video_id)
    assert str(attempt["token"]) == str(lost[0].token)


def test_f11_an_idle_claim_whose_answer_was_lost_goes_back(world, monkeypatch):
    with encoder(world, publish) as running:
        leases = running.encoder._leases
        claim, lost = leases.claim_next, []

        def claim_and_lose_the_answer(*arguments):
            lease = claim(*arguments)
            if lease is not None and not lost:
                lost.append(lease)
                raise AmbiguousCommit("postgres", "The connection was lost during `find_own`.")
            return lease

        monkeypatch.setattr(leases, "claim_next", claim_and_lose_the_answer)
        video_id = world.video()
        running.until_status(video_id, "READY")
    assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["abandoned", "ready"]
    assert NotClaimed(lost[0].token) in running.listener.events


def test_f35_without_room_nothing_is_taken_and_it_is_said_once(world, monkeypatch):
    monkeypatch.setattr("appliance.encoder.process.FRESH_SECONDS", 0.05)
    greedy = replace(world.config.workspace, min_free_bytes=2**60)
    world = replace(world, config=replace(world.config, workspace=greedy))
    video_id = world.video()
    world.ring(video_id)
    with encoder(world, publish) as running:
        assert "min_free_bytes" in running.until_logged("ADMISSION_CLOSED")["reason"]
        turns = []
        lack = running.encoder._workspace.lack
        monkeypatch.setattr(running.encoder._workspace, "lack", lambda: turns.append(1) or lack())
        until(lambda: len(turns) >= 3, "three more looks")
        assert world.status(video_id) == "UPLOADED"
        assert world.depth() == (1, 0)
        monkeypatch.setattr(running.encoder._workspace, "_min_free_bytes", 0)
        running.until_status(video_id, "READY")
    assert len(running.lines("ADMISSION_CLOSED")) == len(running.lines("ADMISSION_OPEN")) == 1


def test_f36_rooms_of_the_dead_are_swept_at_start(world, tmp_path):
    left = tmp_path / "scratch" / "job-7-left"
    left.mkdir(parents=True)
    (left / "source").write_bytes(b"x")
    with encoder(world, publish) as running:
        until(lambda: not left.exists(), "the sweep")
        assert running.listener.of(Booted)


# --- signals, to an encoder that is a process of its own ------------------------------------------------------------


def test_f37_sigterm_when_idle_ends_it_with_nothing_lost(world, tmp_path):
    with child(world, publish, tmp_path) as process:
        until(lambda: process.connection.poll() and isinstance(process.connection.recv(), Booted), "the boot")
        process.signal(signal.SIGTERM)
        assert process.end() == 0


@BOTH
def test_f37_sigterm_in_a_job_releases_it_before_a_chunk_that_does_not_fit(world, tmp_path, fast_ack):
    world = world.with_queue(fast_ack=fast_ack)
    video_id = world.video()
    with child(world, in_chunks, tmp_path) as process:
        process.until_logged("JOB_WARNING")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        returned = process.until_logged("handler.handle() returned")
    assert returned["result"] == "released"
    row = world.row(video_id)
    assert (row["status"], row["failure_count"], row["loss_count"]) == ("UPLOADED", 0, 0)
    assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["released"]


def test_f37_sigterm_lets_a_job_finish_what_fits(world, tmp_path):
    video_id = world.video()
    with child(world, one_more_chunk, tmp_path) as process:
        process.until_logged("JOB_WARNING")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    assert world.status(video_id) == "READY"


def test_f38_a_second_sigterm_releases_at_once(world, tmp_path):
    video_id = world.video()
    with child(world, linger, tmp_path) as process:
        process.until_logged("JOB_WARNING")
        process.signal(signal.SIGTERM)
        until(lambda: len(process.lines("JOB_WARNING")) == 2, "the first note")  # two pending signals would be one
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert process.until_logged("handler.handle() returned")["result"] == "released"
    assert (world.status(video_id), world.row(video_id)["failure_count"]) == ("UPLOADED", 0)


def test_f38_ctrl_c_reaches_children_too_and_is_left_to_the_supervisor(world, tmp_path):
    video_id = world.video()
    with child(world, one_more_chunk, tmp_path) as process:
        process.until_logged("JOB_WARNING")
        process.signal(signal.SIGINT)
        assert process.process.is_alive()
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    assert world.status(video_id) == "READY"


def test_a_drain_that_outlasts_its_budget_is_released(world):
    video_id = world.video()
    with encoder(world, linger, drain_seconds=0.2) as running:
        running.until_logged("JOB_WARNING")
    assert world.status(video_id) == "UPLOADED"
    assert running.status == 0


@BOTH
def test_a_released_video_is_rung_or_its_message_made_visible(world, fast_ack, monkeypatch):
    asleep(monkeypatch)
    world = world.with_queue(fast_ack=fast_ack)
    video_id = world.video()
    world.ring(video_id)
    with encoder(world, linger) as running:
        running.until_logged("JOB_WARNING")
        running.drain.note()
        running.drain.note()
        running.until_logged("handler.handle() returned")
    assert world.depth() == (1, 0)
    message = world.sqs.receive_message(QueueUrl=world.config.queue.url, AttributeNames=["All"])["Messages"][0]
    assert json.loads(message["Body"])["video_id"] == video_id
    assert message["Attributes"]["ApproximateReceiveCount"] == ("1" if fast_ack else "2")
    assert (Counted("rings", labels=("release",)) in running.listener.events) == fast_ack


@BOTH
def test_f37_a_message_that_arrives_after_sigterm_is_given_back_or_left(world, fast_ack, monkeypatch):
    asleep(monkeypatch)
    world = world.with_queue(fast_ack=fast_ack)
    video_id = world.video()
    with encoder(world, publish) as running:
        doorbell = running.encoder._messages._doorbell
        receive = doorbell.receive
        called = threading.Event()

        def receive_as_the_signal_comes(wait_seconds):
            called.set()
            received = receive(wait_seconds)
            if received is not None:
                running.drain.note()
            return received

        monkeypatch.setattr(doorbell, "receive", receive_as_the_signal_comes)
        assert called.wait(PATIENCE_SECONDS)  # a call that had begun before would take the message without the signal
        world.ring(video_id)
        until(lambda: running.status is not None, "the end")
    assert world.depth() == ((0, 1) if fast_ack else (1, 0))
    assert world.status(video_id) == "UPLOADED"
    assert not running.lines("VIDEO_FAST_ACK_APPLIED")
    assert running.until_logged("SQS_MESSAGE_SETTLED")["settlement"] == ("nothing" if fast_ack else "return")


def test_a_settle_that_the_drain_cuts_short_is_left_to_the_supervisor(world, postgres):
    video_id = world.video()
    stopped = threading.Event()

    def work(_job):
        stopped.wait(30)
        return STREAM

    with encoder(world, work, drain_seconds=0.2) as running:
        running.until_logged("VIDEO_CLAIMED")
        postgres.stop()
        running.drain.note()
        stopped.set()
        running.until_logged("SETTLE_FAILED")
    postgres.start()
    assert not running.listener.of(Settled)
    assert world.status(video_id) == "PROCESSING"


@BOTH
def test_f37_a_claim_that_the_drain_cuts_short_leaves_its_token_to_the_supervisor(world, monkeypatch, fast_ack):
    world = world.with_queue(fast_ack=fast_ack)
    name = "claim" if fast_ack else "claim_next"
    with encoder(world, publish) as running:
        until(lambda: running.listener.of(NotClaimed), "an idle look")
        leases = running.encoder._leases

        def fail(*_, **__):
            running.drain.note()
            raise Unavailable("postgres", "PostgreSQL does not answer.")

        for method in (name, "abandon"):
            monkeypatch.setattr(leases, method, fail)
        if fast_ack:
            asleep(monkeypatch)
            world.ring(world.video())
        until(lambda: running.status is not None, "the end")
    announced = {event.token for event in running.listener.of(Claiming)}
    ended = {event.token for event in running.listener.of(NotClaimed)}
    assert len(announced - ended) == 1
    assert running.status == 0


def test_visibility_is_never_touched_on_the_fast_ack_path(world, monkeypatch):
    asleep(monkeypatch)
    calls = []
    with encoder(world, linger) as running:
        doorbell = running.encoder._messages._doorbell
        monkeypatch.setattr(doorbell, "visibility", lambda *arguments: calls.append(arguments))
        world.ring(world.video())
        running.until_logged("JOB_WARNING")
        running.drain.note()
        running.drain.note()
        running.until_logged("handler.handle() returned")
    assert calls == []
