"""The ownership of a video, statement by statement, on a clock that the test moves."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg2
import pytest

from appliance.adapters.postgres.leases import Abandoned
from appliance.domain.errors import ERROR_CODES, LeaseLost
from appliance.domain.retry import Decision
from appliance.domain.video import ClaimMiss, Lease, Status, Worker
from tests.adapters.postgres.stage import (
    CLOCK_PATH,
    LEASE_SECONDS,
    MAX_LOSSES,
    WORKER,
    claimed,
    make_leases,
)

RETRY = Decision("encode_failed", "ffmpeg ended with status 1", 30.0)
REJECT = Decision("not_media", "The file is not a video or audio recording.", None)
RECEIPT = {"wall_seconds": 1.5}
#: What a platform that re-submits by writing the status alone relies on.
CLEAN = {
    "run_after": None,
    "next_ring_at": None,
    "ring_count": 0,
    "failure_count": 0,
    "loss_count": 0,
    "cancel_requested_at": None,
    "leased_by": "",
    "leased_until": None,
    "lease_token": None,
    "leased_at": None,
    "renewed_at": None,
}


def clean(row):
    return {name: row[name] for name in CLEAN}


def complete(leases, lease):
    leases.complete(lease, hls_path="hls/7/1-x/master.m3u8", duration_seconds=17.09, receipt=RECEIPT)


def fail(leases, lease, decision=RETRY):
    return leases.fail(lease, decision, receipt=RECEIPT)


def release(leases, lease, seconds=0.0):
    return leases.release(lease, run_after_seconds=seconds, reason="drain", receipt=RECEIPT)


@pytest.fixture
def video_id(leases) -> int:
    return leases.submit("videos/lecture.mp4", 3)


# -- claim


def test_the_seeds_double_claim_is_true_then_false(leases, video_id) -> None:
    assert leases.try_claim_video(video_id, "worker-a") is True
    assert leases.try_claim_video(video_id, "worker-b") is False


def test_a_claim_takes_the_lease_and_opens_the_attempt(leases, admin, clock, video_id) -> None:
    clock.advance(12)
    token = uuid.uuid4()
    lease = leases.claim(video_id, WORKER, token)
    assert lease == Lease(video_id, 3, "videos/lecture.mp4", token, 1, WORKER, waited_seconds=12.0)
    row = admin.row(video_id)
    assert (row["status"], row["leased_by"], row["lease_token"]) == ("PROCESSING", WORKER.name, str(token))
    assert row["leased_until"] - row["leased_at"] == timedelta(seconds=LEASE_SECONDS)
    assert row["renewed_at"] == row["leased_at"] == row["updated_at"]
    (attempt,) = admin.attempts(video_id)
    assert (attempt["token"], attempt["epoch"], attempt["host"]) == (str(token), 1, "host-a")
    assert (attempt["ended_at"], attempt["outcome"]) == (None, None)


def test_the_epoch_counts_every_claim(leases, video_id) -> None:
    first = claimed(leases, video_id)
    release(leases, first)
    assert claimed(leases, video_id).epoch == first.epoch + 1


def test_a_worker_name_that_is_too_long_for_the_column_is_cut(leases, admin, video_id) -> None:
    claimed(leases, video_id, Worker("h", "w" * 90))
    assert admin.row(video_id)["leased_by"] == "w" * 64


def test_the_claim_stores_the_messages_tenant_where_the_row_has_none(leases, admin) -> None:
    without, with_one = leases.submit("a.mp4", None), leases.submit("b.mp4", 3)
    assert leases.claim(without, WORKER, uuid.uuid4(), tenant_id=9).tenant_id == 9
    assert leases.claim(with_one, WORKER, uuid.uuid4(), tenant_id=9).tenant_id == 3


@pytest.mark.parametrize(
    ("status", "miss"),
    [
        ("READY", ClaimMiss.READY),
        ("FAILED", ClaimMiss.FAILED),
        ("PENDING", ClaimMiss.PENDING),
        ("PROCESSING", ClaimMiss.OWNED),
    ],
)
def test_f05_a_claim_of_a_row_in_another_state_changes_nothing(leases, admin, video_id, status, miss) -> None:
    admin("UPDATE video SET status = %s WHERE id = %s", status, video_id)
    before = admin.row(video_id)
    assert leases.claim(video_id, WORKER, uuid.uuid4()) is miss
    assert admin.row(video_id) == before
    assert admin.attempts(video_id) == []


def test_f05_an_unknown_video_is_unknown(leases) -> None:
    assert leases.claim(10**12, WORKER, uuid.uuid4()) is ClaimMiss.UNKNOWN


def test_a_row_is_claimed_when_it_is_due_and_not_before(leases, clock, video_id) -> None:
    fail(leases, claimed(leases, video_id))
    clock.advance(29)
    assert leases.claim(video_id, WORKER, uuid.uuid4()) is ClaimMiss.NOT_DUE
    assert leases.claim_next(WORKER, uuid.uuid4()) is None
    clock.advance(1)
    assert leases.claim(video_id, WORKER, uuid.uuid4()).failure_count == 1


def test_a_platforms_row_with_null_times_is_due_now(leases, admin) -> None:
    (row,) = admin("INSERT INTO video (file_key, status) VALUES ('a.mp4', 'UPLOADED') RETURNING id")
    assert claimed(leases, row["id"]).tenant_id is None


def test_f03_a_row_that_the_producer_still_holds_is_tried_again(dsn, database, admin, video_id) -> None:
    """Its visible status is PENDING; the doorbell was faster than the producer's commit."""
    admin("UPDATE video SET status = 'PENDING'")
    producer = psycopg2.connect(dsn)
    producer.cursor().execute("UPDATE video SET status = 'UPLOADED'")
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        producer.commit()

    assert isinstance(make_leases(database, wait=wait).claim(video_id, WORKER, uuid.uuid4()), Lease)
    assert len(waits) == 1
    producer.close()


@pytest.mark.parametrize("status", ["UPLOADED", "READY", "PENDING"])
def test_f03_a_row_that_stays_locked_is_locked_and_not_owned(dsn, database, admin, video_id, status) -> None:
    admin("UPDATE video SET status = %s", status)
    other = psycopg2.connect(dsn)
    other.cursor().execute("SELECT FROM video FOR NO KEY UPDATE")
    assert make_leases(database, locked_wait_seconds=0).claim(video_id, WORKER, uuid.uuid4()) is ClaimMiss.LOCKED
    assert make_leases(database).claim_next(WORKER, uuid.uuid4()) is None
    other.close()


def test_a_foreign_key_of_the_platform_does_not_make_a_row_look_taken(dsn, leases, video_id) -> None:
    platform = psycopg2.connect(dsn)
    platform.cursor().execute("SELECT FROM video FOR KEY SHARE")  # what inserting a referencing row takes
    claimed(leases, video_id)
    platform.close()


def test_f04_of_a_hundred_duplicates_at_once_one_claims(open_database, admin, leases, video_id) -> None:
    start = threading.Barrier(100)

    def duplicate(number: int) -> Lease | ClaimMiss:
        database = open_database(search_path=CLOCK_PATH)
        database.ping()
        start.wait()
        return make_leases(database, locked_wait_seconds=60).claim(video_id, Worker("h", str(number)), uuid.uuid4())

    with ThreadPoolExecutor(100) as threads:
        results = list(threads.map(duplicate, range(100)))
    (lease,) = (result for result in results if isinstance(result, Lease))
    assert [result for result in results if result is not lease] == [ClaimMiss.OWNED] * 99
    assert admin.row(video_id)["lease_token"] == str(lease.token)
    assert [attempt["token"] for attempt in admin.attempts(video_id)] == [str(lease.token)]


def test_claim_next_goes_by_priority_then_by_age(leases, admin, clock) -> None:
    old, young = leases.submit("a", 1), leases.submit("b", 1)
    urgent = leases.submit("c", 1, priority=5)
    clock.advance(60)
    admin("UPDATE video SET run_after = run_after + interval '5 s' WHERE id = %s", old)
    (platform,) = admin("INSERT INTO video (file_key, status) VALUES ('d', 'UPLOADED') RETURNING id")
    order = [leases.claim_next(WORKER, uuid.uuid4()).video_id for _ in range(4)]
    assert order == [urgent, platform["id"], young, old]
    assert leases.claim_next(WORKER, uuid.uuid4()) is None


def test_many_encoders_that_look_for_work_at_once_never_share_a_video(open_database, leases) -> None:
    ids = {leases.submit(f"{number}.mp4", 1) for number in range(40)}

    def idle(number: int) -> list[int]:
        own = make_leases(open_database(search_path=CLOCK_PATH))
        taken = []
        while lease := own.claim_next(Worker("h", str(number)), uuid.uuid4()):
            taken.append(lease.video_id)
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [video_id for found in threads.map(idle, range(8)) for video_id in found]
    assert sorted(taken) == sorted(ids)


def test_an_attempt_that_the_platform_ended_by_hand_is_closed_by_the_next_claim(leases, admin, video_id) -> None:
    lease = claimed(leases, video_id)
    admin("UPDATE video SET status = 'UPLOADED'")
    claimed(leases, video_id)
    assert [attempt["outcome"] for attempt in admin.attempts(video_id)] == ["superseded", None]
    with pytest.raises(LeaseLost):
        leases.renew(lease)


# -- renew


def test_a_renewal_extends_the_lease_and_touches_nothing_else(leases, admin, clock, video_id) -> None:
    lease = claimed(leases, video_id)
    before = admin.row(video_id)
    clock.advance(20)
    assert leases.renew(lease) is False
    after = admin.row(video_id)
    moved = {name for name in after if after[name] != before[name]}
    assert moved == {"leased_until", "renewed_at"}
    assert after["leased_until"] - before["leased_until"] == timedelta(seconds=20)


def test_f24_a_late_renewal_keeps_the_work_while_nobody_reclaimed(leases, admin, clock, video_id) -> None:
    lease = claimed(leases, video_id)
    clock.advance(10 * LEASE_SECONDS)
    assert leases.renew(lease) is False
    complete(leases, lease)


# -- the end of a lease


def test_complete_publishes_and_resets_everything(leases, admin, clock, video_id) -> None:
    fail(leases, claimed(leases, video_id))
    clock.advance(30)
    lease = claimed(leases, video_id)
    admin("UPDATE video SET loss_count = 2, ring_count = 4, cancel_requested_at = now()")
    complete(leases, lease)
    row = admin.row(video_id)
    assert clean(row) == CLEAN
    assert (row["status"], row["hls_path"], row["duration"]) == ("READY", "hls/7/1-x/master.m3u8", 17.09)
    assert (row["finished_token"], row["finished_epoch"]) == (str(lease.token), lease.epoch)
    assert (row["error_code"], row["error_reason"]) == (None, "")
    last = admin.attempts(video_id)[-1]
    assert (last["outcome"], last["receipt"], last["ended_at"]) == ("ready", RECEIPT, row["ready_at"])


def test_a_transient_failure_waits_for_its_backoff(leases, admin, video_id) -> None:
    lease = claimed(leases, video_id)
    assert fail(leases, lease) is Status.UPLOADED
    row = admin.row(video_id)
    assert (row["run_after"] - row["updated_at"]).total_seconds() == 30
    assert (row["next_ring_at"], row["ring_count"]) == (row["run_after"], 0)
    assert (row["failure_count"], row["loss_count"], row["error_code"]) == (1, 0, "encode_failed")
    assert (row["leased_by"], row["lease_token"], row["renewed_at"]) == ("", None, None)
    (attempt,) = admin.attempts(video_id)
    assert (attempt["outcome"], attempt["error_code"]) == ("retried", "encode_failed")
    assert (attempt["error_reason"], attempt["receipt"]) == (RETRY.error_reason, RECEIPT)


def test_a_permanent_failure_ends_with_a_sentence_and_everything_reset(leases, admin, clock, video_id) -> None:
    fail(leases, claimed(leases, video_id))
    clock.advance(30)
    assert fail(leases, claimed(leases, video_id), REJECT) is Status.FAILED
    row = admin.row(video_id)
    assert clean(row) == CLEAN
    assert (row["status"], row["error_code"], row["error_reason"]) == ("FAILED", "not_media", REJECT.error_reason)
    assert [attempt["outcome"] for attempt in admin.attempts(video_id)] == ["retried", "failed"]


def test_words_that_postgresql_cannot_hold_do_not_stop_the_verdict(leases, admin, video_id) -> None:
    nasty = Decision("encode_failed", "bad \0 byte \udcff 'quoted' 100 %s {x}", None)
    leases.fail(claimed(leases, video_id), nasty, receipt={"warnings": ["\0 and \udcff", {"a\0": ("b",)}]})
    assert admin.row(video_id)["error_reason"] == "bad  byte ? 'quoted' 100 %s {x}"
    assert admin.attempts(video_id)[0]["receipt"] == {"warnings": [" and ?", {"a": ["b"]}]}


def test_a_release_is_charged_to_nothing_and_due_at_once(leases, admin, clock, video_id) -> None:
    fail(leases, claimed(leases, video_id))
    clock.advance(30)
    admin("UPDATE video SET loss_count = 1")
    assert release(leases, claimed(leases, video_id)) is Status.UPLOADED
    row = admin.row(video_id)
    assert (row["failure_count"], row["loss_count"]) == (1, 1)
    assert row["run_after"] == row["next_ring_at"] == row["updated_at"]
    last = admin.attempts(video_id)[-1]
    assert (last["outcome"], last["error_reason"], last["receipt"]) == ("released", "drain", RECEIPT)


def test_a_source_too_big_for_a_host_is_released_for_later(leases, admin, video_id) -> None:
    release(leases, claimed(leases, video_id), seconds=600)
    row = admin.row(video_id)
    assert (row["run_after"] - row["updated_at"]).total_seconds() == 600


def test_f02_a_dead_childs_token_gives_the_video_back_at_once(leases, admin, video_id) -> None:
    lease = claimed(leases, video_id)
    assert leases.abandon(lease.token) == Abandoned(video_id, 3, "videos/lecture.mp4", Status.UPLOADED)
    row = admin.row(video_id)
    assert (row["status"], row["loss_count"], row["failure_count"]) == ("UPLOADED", 1, 0)
    assert row["next_ring_at"] == row["run_after"] == row["updated_at"]
    (attempt,) = admin.attempts(video_id)
    assert (attempt["outcome"], attempt["error_reason"]) == ("abandoned", "its encoder died")


def test_a_token_that_never_took_a_row_abandons_nothing(leases, video_id) -> None:
    lease = claimed(leases, video_id)
    assert leases.abandon(uuid.uuid4()) is None
    complete(leases, lease)
    assert leases.abandon(lease.token) is None


def test_f19_an_abandoned_token_does_not_touch_the_next_owner_of_the_same_name(leases, admin, video_id) -> None:
    first = claimed(leases, video_id)
    release(leases, first)
    second = claimed(leases, video_id)
    assert leases.abandon(first.token) is None
    assert leases.renew(second) is False


def test_f32_a_video_that_kills_its_encoders_stops_at_max_losses(leases, admin, video_id) -> None:
    statuses = [leases.abandon(claimed(leases, video_id).token).status for _ in range(MAX_LOSSES)]
    assert statuses == [Status.UPLOADED] * (MAX_LOSSES - 1) + [Status.FAILED]
    row = admin.row(video_id)
    assert clean(row) == CLEAN
    assert (row["error_code"], row["error_reason"]) == ("crashed_encoder", ERROR_CODES["crashed_encoder"])


@pytest.mark.parametrize("ended_by", ["reclaim", "reclaim and a new owner", "complete", "cancel", "the platform"])
@pytest.mark.parametrize("write", [complete, fail, release, lambda leases, lease: leases.renew(lease)])
def test_f13_a_stale_owner_changes_no_row(database, leases, admin, video_id, ended_by, write) -> None:
    stale = claimed(leases, video_id)
    if ended_by == "complete":
        release(leases, stale)
        complete(leases, claimed(leases, video_id))
    elif ended_by == "cancel":
        release(leases, stale)
        leases.cancel(video_id)
    elif ended_by == "the platform":
        admin("UPDATE video SET status = 'FAILED'")  # by hand, and nothing else
    else:
        assert leases.try_reclaim_video(video_id, force=True)
    if ended_by == "reclaim and a new owner":
        claimed(leases, video_id)
    # Its own release must not look like the write under test, which would then be told that it had worked before.
    admin("UPDATE video_attempt SET outcome = 'reclaimed' WHERE token = %s AND ended_at IS NOT NULL", stale.token)
    before, history = admin.row(video_id), admin.attempts(video_id)
    with pytest.raises(LeaseLost):
        write(leases, stale)
    assert leases.abandon(stale.token) is None
    assert database.run("find_own", token=stale.token) == []
    assert admin.row(video_id) == before
    assert admin.attempts(video_id) == history


def test_f13_a_token_of_another_video_opens_nothing(leases, video_id) -> None:
    lease = claimed(leases, video_id)
    other = claimed(leases, leases.submit("b.mp4", 3))
    crossed = Lease(video_id, 3, "", other.token, 1, WORKER)
    for write in (complete, fail, release):
        with pytest.raises(LeaseLost):
            write(leases, crossed)
    assert leases.renew(lease) is False


# -- the seed's reclaim


def test_the_seeds_reclaim_takes_an_expired_lease_or_any_by_force(leases, admin, clock, video_id) -> None:
    assert leases.try_reclaim_video(video_id, force=True) is False  # nobody processes it
    claimed(leases, video_id)
    assert leases.try_reclaim_video(video_id) is False
    clock.advance(LEASE_SECONDS + 1)
    assert leases.try_reclaim_video(video_id) is True
    row = admin.row(video_id)
    assert (row["status"], row["leased_by"], row["leased_until"]) == ("UPLOADED", "", None)
    claimed(leases, video_id)
    assert leases.try_reclaim_video(video_id, force=True) is True
    assert [attempt["outcome"] for attempt in admin.attempts(video_id)] == ["reclaimed", "reclaimed"]


def test_f20_a_platforms_row_without_an_end_counts_as_expired(leases, admin, video_id) -> None:
    admin("UPDATE video SET status = 'PROCESSING', leased_by = 'old-worker'")
    assert leases.try_reclaim_video(video_id) is True


# -- cancel and re-submit


def test_f21_a_waiting_video_is_cancelled_at_once(leases, admin, video_id) -> None:
    fail(leases, claimed(leases, video_id))
    assert leases.cancel(video_id) == "cancelled"
    row = admin.row(video_id)
    assert clean(row) == CLEAN
    assert (row["status"], row["error_code"]) == ("FAILED", "cancelled")


def test_f21_a_running_video_is_marked_and_its_owner_stops(leases, admin, clock, video_id) -> None:
    lease = claimed(leases, video_id)
    assert leases.cancel(video_id) == "requested"
    first = admin.row(video_id)["cancel_requested_at"]
    clock.advance(5)
    assert leases.cancel(video_id) == "requested"
    assert admin.row(video_id)["cancel_requested_at"] == first
    assert leases.renew(lease) is True
    assert leases.cancelled(lease, receipt=RECEIPT) is Status.FAILED
    row = admin.row(video_id)
    assert clean(row) == CLEAN
    assert (row["error_code"], row["error_reason"]) == ("cancelled", ERROR_CODES["cancelled"])
    assert admin.attempts(video_id)[0]["outcome"] == "cancelled"


@pytest.mark.parametrize(
    "end",
    [
        fail,
        release,
        lambda leases, lease: leases.abandon(lease.token).status,
        lambda leases, lease: leases.try_reclaim_video(lease.video_id, force=True),
    ],
)
def test_f21_a_marked_video_never_goes_back_to_the_queue(leases, admin, video_id, end) -> None:
    lease = claimed(leases, video_id)
    leases.cancel(video_id)
    assert end(leases, lease) in (Status.FAILED, True)
    row = admin.row(video_id)
    assert clean(row) == CLEAN
    assert (row["status"], row["error_code"]) == ("FAILED", "cancelled")


def test_f21_a_complete_that_came_first_wins(leases, admin, video_id) -> None:
    lease = claimed(leases, video_id)
    leases.cancel(video_id)
    complete(leases, lease)
    assert leases.cancel(video_id) == "ignored"
    assert clean(admin.row(video_id)) == CLEAN


def test_f21_a_stale_mark_does_not_cancel_the_resubmitted_job(leases, admin, video_id) -> None:
    admin("UPDATE video SET cancel_requested_at = now()")
    assert leases.renew(claimed(leases, video_id)) is False


def test_cancelling_what_is_not_there_says_so(leases) -> None:
    assert leases.cancel(10**12) == "unknown"


def test_a_resubmit_starts_clean_and_due_now(leases, admin, clock, video_id) -> None:
    assert leases.resubmit(video_id) is False
    fail(leases, claimed(leases, video_id), REJECT)
    clock.advance(100)
    assert leases.resubmit(video_id) is True
    row = admin.row(video_id)
    assert (row["status"], row["error_code"], row["error_reason"]) == ("UPLOADED", None, "")
    assert row["run_after"] == row["next_ring_at"] == row["updated_at"]
    assert claimed(leases, video_id).waited_seconds == 0


@pytest.mark.parametrize("cancelled", [False, True], ids=["fails", "is cancelled"])
def test_f55_the_old_stream_stays_until_the_new_one_is_complete(leases, admin, video_id, *, cancelled) -> None:
    first = claimed(leases, video_id)
    complete(leases, first)
    leases.resubmit(video_id)
    again = claimed(leases, video_id)
    assert again.finished_epoch == first.epoch
    if cancelled:
        leases.cancelled(again, receipt={})
    else:
        fail(leases, again, REJECT)
    row = admin.row(video_id)
    assert (row["status"], row["hls_path"]) == ("FAILED", "hls/7/1-x/master.m3u8")
    assert (row["finished_token"], row["finished_epoch"]) == (str(first.token), first.epoch)


def test_a_platform_that_resubmits_by_the_status_alone_gets_a_clean_run(leases, admin, video_id) -> None:
    leases.cancel(video_id)
    admin("UPDATE video SET status = 'UPLOADED'")
    lease = claimed(leases, video_id)
    assert (lease.failure_count, lease.loss_count, leases.renew(lease)) == (0, 0, False)
