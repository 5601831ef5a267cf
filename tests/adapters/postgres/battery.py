"""What the ownership statements promise, as short scenes: the battery that every mutilated statement has to survive.

A scene is a function of a Scene, reset before it. It names the promise, not the guard: which guards it needs is found
out by tests/adapters/postgres/test_guards.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from appliance.adapters.postgres.sweeps import Held
from appliance.domain.errors import ERROR_CODES, LeaseLost
from appliance.domain.retry import Decision
from appliance.domain.video import ChunkLease, ClaimMiss, Lease, Status, Worker
from tests.adapters.postgres.scene import BUILD, OBJECTS, PLAN, WORKER, Scene, make_plan
from tests.adapters.postgres.stage import MAX_LOSSES

OTHER = Worker("host-c", "host-c/1")
RETRY = Decision("encode_failed", "ffmpeg gave up.", 30.0)
FINAL = Decision("no_video", "There is no picture.", None)
CANCELLED = {"code": "cancelled", "reason": ERROR_CODES["cancelled"]}
CRASHED = {"code": "crashed_encoder", "reason": ERROR_CODES["crashed_encoder"]}
MARK = "cancel_requested_at = now()"


def complete(scene: Scene, lease: Lease) -> None:
    scene.leases.complete(lease, hls_path=f"hls/{lease.token}", duration_seconds=9.0, receipt={"wall_seconds": 1})


def refused(call: Callable[..., object], *arguments: Any, **settings: Any) -> None:
    """The write was rejected: the lease it carries is not the row's."""
    try:
        call(*arguments, **settings)
    except LeaseLost:
        return
    raise AssertionError("a stale write was accepted")


def locked(run: Any) -> Any:
    """The answer of a call that must not wait for anybody's lock."""
    assert not run.waited, "it waited for a lock"
    if run.error:
        raise run.error
    return run.answer


def waited(run: Any) -> Any:
    """The answer of a call that must hear how the other transaction ended."""
    assert run.waited, "it did not wait for the one who was writing"
    if run.error:
        raise run.error
    return run.answer


def refused_after(run: Any) -> None:
    assert run.waited
    assert isinstance(run.error, LeaseLost), run


def owner_writes(scene: Scene) -> dict[str, Callable[[Lease], object]]:
    """Whatever extends or ends a lease."""
    leases, chunks = scene.leases, scene.chunks
    return {
        "renew": leases.renew,
        "complete": lambda lease: complete(scene, lease),
        "fail": lambda lease: leases.fail(lease, RETRY, receipt={}),
        "release": lambda lease: leases.release(lease, reason="drain", receipt={}),
        "adopt": lambda lease: chunks.adopt(lease, make_plan("another-plan"), BUILD),
        "redo": lambda lease: chunks.redo(lease, 0),
    }


def chunk_writes(scene: Scene) -> dict[str, Callable[[ChunkLease], object]]:
    chunks = scene.chunks
    return {
        "renew_chunk": chunks.renew_chunk,
        "done": lambda chunk: chunks.done(chunk, OBJECTS),
        "release_chunk": chunks.release_chunk,
    }


def taken(scene: Scene, lease: Lease) -> ChunkLease:
    chunk = scene.take(lease)
    assert chunk is not None
    return chunk


# ---- claim


def a_claim_takes_a_due_row(scene: Scene) -> None:
    video = scene.submit()
    lease = scene.claim(video)
    scene.expect_held(lease, epoch=1)
    assert scene.outcomes(video) == [None]


def a_row_is_claimed_from_run_after_on(scene: Scene) -> None:
    video = scene.submit()
    scene.hand(video, "run_after = now() + interval '60 s'")
    before = scene.seen(video)
    assert scene.leases.claim(video, WORKER, uuid.uuid4()) is ClaimMiss.NOT_DUE
    assert scene.leases.claim_next(WORKER, uuid.uuid4()) is None
    assert scene.seen(video) == before
    scene.advance(60)
    scene.claim(video)


def a_row_without_run_after_is_due(scene: Scene) -> None:
    first, second = scene.submit(), scene.submit()
    scene.hand(first, "run_after = NULL, next_ring_at = NULL")
    scene.hand(second, "run_after = NULL, next_ring_at = NULL")
    assert {ring.video_id for ring in scene.sweeps.due_rings(10, 60)} == {first, second}
    scene.claim(second)
    assert scene.leases.claim_next(WORKER, uuid.uuid4()).video_id == first


def a_row_in_any_other_state_is_not_claimed(scene: Scene) -> None:
    video = scene.submit()
    for status, miss in (("PENDING", ClaimMiss.PENDING), ("READY", ClaimMiss.READY), ("FAILED", ClaimMiss.FAILED)):
        scene.hand(video, f"status = '{status}'")
        assert scene.leases.claim(video, WORKER, uuid.uuid4()) is miss
        assert scene.leases.claim_next(WORKER, uuid.uuid4()) is None
    scene.hand(video, "status = 'UPLOADED'")
    lease = scene.claim(video)
    assert scene.leases.claim(video, OTHER, uuid.uuid4()) is ClaimMiss.OWNED
    assert scene.leases.claim_next(OTHER, uuid.uuid4()) is None
    scene.expect_held(lease, epoch=1)


def a_claim_asked_again_is_the_same_claim(scene: Scene) -> None:
    video, token = scene.submit(), uuid.uuid4()
    first = scene.leases.claim(video, WORKER, token)
    assert scene.leases.claim(video, WORKER, token) == first
    scene.hand(video, "status = 'FAILED'")
    assert scene.leases.claim(video, WORKER, token) is ClaimMiss.FAILED
    assert scene.leases.claim(10**9, WORKER, token) is ClaimMiss.UNKNOWN


def f11_a_token_claims_once(scene: Scene) -> None:
    """Its answer was lost, and so was its lease before it could be asked again."""
    lease = scene.owned()
    scene.leases.try_reclaim_video(lease.video_id, force=True)
    before = scene.seen(lease.video_id)
    assert scene.leases.claim(lease.video_id, WORKER, lease.token) is ClaimMiss.LOCKED
    assert scene.seen(lease.video_id) == before
    scene.claim(lease.video_id)


def a_lost_claim_is_found_by_its_token(scene: Scene) -> None:
    lease, other = scene.owned(), scene.owned()
    (row,) = scene.database.run("find_own", token=lease.token)
    assert (row["video_id"], row["epoch"]) == (lease.video_id, 1)
    (row,) = scene.database.run("find_own", token=other.token)
    assert row["video_id"] == other.video_id
    scene.hand(other.video_id, "status = 'FAILED'")
    scene.leases.abandon(lease.token)
    scene.claim(lease.video_id, OTHER)
    assert not scene.database.run("find_own", token=lease.token)
    assert not scene.database.run("find_own", token=other.token)


def a_claim_closes_the_attempts_that_nobody_closed_and_no_other(scene: Scene) -> None:
    for claim in (scene.claim, lambda _: scene.leases.claim_next(WORKER, uuid.uuid4())):
        lease = scene.owned()
        scene.leases.release(lease, reason="drain", receipt={})
        again = claim(lease.video_id)
        scene.hand(again.video_id, "status = 'UPLOADED'")
        claim(again.video_id)
        assert scene.outcomes(again.video_id) == ["released", "superseded", None]


def claim_next_takes_one_row_the_first(scene: Scene) -> None:
    late, early, urgent = scene.submit(), scene.submit(), scene.submit(priority=5)
    scene.hand(early, "run_after = now() - interval '1 hour'")
    for video in (urgent, early, late):
        lease = scene.leases.claim_next(WORKER, uuid.uuid4())
        assert lease is not None
        assert lease.video_id == video
    assert scene.leases.claim_next(WORKER, uuid.uuid4()) is None


def a_row_that_somebody_writes_is_not_waited_for(scene: Scene) -> None:
    video, token = scene.submit(), uuid.uuid4()
    for held in (
        f"UPDATE video SET priority = 1 WHERE id = {video}",
        f"SELECT FROM video WHERE id = {video} FOR UPDATE",
    ):
        assert locked(scene.beside(held, lambda: scene.leases.claim(video, WORKER, token))) is ClaimMiss.LOCKED
        assert locked(scene.beside(held, lambda: scene.leases.claim_next(WORKER, token))) is None
        assert locked(scene.beside(held, lambda: scene.sweeps.due_rings(10, 60), end="ROLLBACK")) == []
        scene.hand(video, "next_ring_at = now()")


def f03_a_locked_row_says_nothing_by_its_status(scene: Scene) -> None:
    lease = scene.owned()
    complete(scene, lease)
    held = f"UPDATE video SET status = 'UPLOADED' WHERE id = {lease.video_id}"
    ask = lambda: scene.leases.claim(lease.video_id, WORKER, uuid.uuid4())  # noqa: E731
    assert locked(scene.beside(held, ask, end="ROLLBACK")) is ClaimMiss.LOCKED
    assert ask() is ClaimMiss.READY


def a_platforms_foreign_key_locks_nobody_out(scene: Scene) -> None:
    video = scene.submit()
    held = f"SELECT FROM video WHERE id = {video} FOR KEY SHARE"
    assert isinstance(locked(scene.beside(held, lambda: scene.leases.claim(video, WORKER, uuid.uuid4()))), Lease)


# ---- renew, complete, fail, release


def an_owner_renews(scene: Scene) -> None:
    lease = scene.owned()
    scene.advance(200)  # late, but nobody reclaimed
    assert scene.leases.renew(lease) is False
    scene.expect_held(lease, held=200, due_in=-200, ring_in=-200)
    scene.hand(lease.video_id, MARK)
    assert scene.leases.renew(lease) is True


def a_stale_owner_changes_nothing(scene: Scene) -> None:
    for name, write in owner_writes(scene).items():
        lease = scene.cut()
        scene.chunks.done(taken(scene, lease), OBJECTS)
        scene.leases.abandon(lease.token)
        scene.claim(lease.video_id, OTHER)
        before = scene.seen(lease.video_id)
        refused(write, lease)
        assert scene.take(lease) is None
        assert scene.seen(lease.video_id) == before, name
        scene.hand(lease.video_id, "status = 'FAILED'")


def a_row_that_was_moved_by_hand_has_no_owner(scene: Scene) -> None:
    """The platform writes a status and nothing else: the token is still there."""
    for status in ("UPLOADED", "FAILED"):
        for name, write in owner_writes(scene).items():
            lease = scene.cut()
            scene.chunks.done(taken(scene, lease), OBJECTS)
            scene.hand(lease.video_id, f"status = '{status}', run_after = '2027-03-01', next_ring_at = '2027-03-01'")
            before = scene.seen(lease.video_id)
            refused(write, lease)
            assert scene.take(lease) is None
            assert scene.leases.abandon(lease.token) is None
            assert scene.seen(lease.video_id) == before, name


def a_copied_row_has_no_owner(scene: Scene) -> None:
    """A platform that copies a row copies its token: a lease is one of its own video."""
    for name, write in {**owner_writes(scene), "abandon": lambda lease: scene.leases.abandon(lease.token)}.items():
        lease = scene.cut()
        scene.chunks.done(taken(scene, lease), OBJECTS)
        twin = scene.twin(lease.video_id)
        before = scene.seen(twin)
        write(lease)
        assert scene.seen(twin) == before, name
        scene.hand(twin, "status = 'FAILED'")
        scene.hand(lease.video_id, "status = 'FAILED'")


def a_copied_row_is_neither_found_nor_helped_nor_judged(scene: Scene) -> None:
    lease = scene.cut()
    scene.chunks.done(taken(scene, lease), OBJECTS)
    twin = scene.twin(lease.video_id)
    before = scene.seen(twin)
    assert [row["video_id"] for row in scene.database.run("find_own", token=lease.token)] == [lease.video_id]
    assert [taken(scene, lease).number, taken(scene, lease).number, scene.take(lease)] == [1, 2, None]
    (judged,) = held_rows(scene, lease)
    assert [row.video_id for row in scene.sweeps.reclaim_silent([judged], None)] == [lease.video_id]
    assert scene.seen(twin) == before


def complete_publishes(scene: Scene) -> None:
    lease = scene.owned()
    scene.hand(lease.video_id, f"failure_count = 2, loss_count = 1, {MARK}")
    complete(scene, lease)
    complete(scene, lease)
    scene.expect(lease.video_id, status="READY", epoch=1, hls_path=f"hls/{lease.token}")
    assert scene.outcomes(lease.video_id) == ["ready"]
    refused(scene.leases.fail, lease, RETRY, receipt={})
    refused(scene.leases.release, lease, reason="drain", receipt={})


def a_failure_is_retried_later(scene: Scene) -> None:
    lease = scene.owned()
    scene.hand(lease.video_id, "ring_count = 3, loss_count = 1")
    assert scene.leases.fail(lease, RETRY, receipt={}) is Status.UPLOADED
    waits = {"due_in": 30, "ring_in": 30, "failures": 1, "losses": 1, "code": RETRY.error_code}
    scene.expect(lease.video_id, epoch=1, reason=RETRY.error_reason, **waits)
    assert scene.outcomes(lease.video_id) == ["retried"]
    assert scene.leases.fail(lease, RETRY, receipt={}) is Status.UPLOADED
    assert scene.row(lease.video_id)["failures"] == 1


def a_final_failure_ends_it(scene: Scene) -> None:
    lease = scene.owned()
    scene.hand(lease.video_id, "ring_count = 3, loss_count = 1, failure_count = 2")
    assert scene.leases.fail(lease, FINAL, receipt={}) is Status.FAILED
    scene.expect(lease.video_id, status="FAILED", epoch=1, code=FINAL.error_code, reason=FINAL.error_reason)
    assert scene.outcomes(lease.video_id) == ["failed"]


def f21_a_marked_row_is_cancelled_however_its_owner_lets_go(scene: Scene) -> None:
    leases = scene.leases
    ends: list[Callable[[Lease], object]] = [
        lambda lease: leases.fail(lease, RETRY, receipt={}),
        lambda lease: leases.fail(lease, FINAL, receipt={}),
        lambda lease: leases.release(lease, reason="drain", run_after_seconds=9, receipt={}),
        lambda lease: leases.abandon(lease.token),
        lambda lease: leases.try_reclaim_video(lease.video_id, force=True),
    ]
    outcomes = ["cancelled", "cancelled", "cancelled", "abandoned", "reclaimed"]
    for end, outcome in zip(ends, outcomes, strict=True):
        lease = scene.owned()
        scene.hand(lease.video_id, f"ring_count = 4, failure_count = 1, loss_count = 1, {MARK}")
        end(lease)
        scene.expect(lease.video_id, status="FAILED", epoch=1, **CANCELLED)
        assert scene.outcomes(lease.video_id) == [outcome]


def an_owner_that_stopped_for_a_cancel_says_so(scene: Scene) -> None:
    lease = scene.owned()
    assert scene.leases.cancelled(lease, receipt={}) is Status.FAILED
    scene.expect(lease.video_id, status="FAILED", epoch=1, **CANCELLED)
    assert scene.outcomes(lease.video_id) == ["cancelled"]


def a_release_is_charged_to_nothing(scene: Scene) -> None:
    lease = scene.owned()
    scene.hand(lease.video_id, "ring_count = 3, loss_count = 1, failure_count = 2")
    assert scene.leases.release(lease, run_after_seconds=40, reason="drain", receipt={}) is Status.UPLOADED
    scene.expect(lease.video_id, epoch=1, due_in=40, ring_in=40, losses=1, failures=2)
    assert scene.outcomes(lease.video_id) == ["released"]


def f12_an_ambiguous_end_is_decided_by_its_attempt(scene: Scene) -> None:
    lease, open_one = scene.owned(), scene.owned()
    scene.leases.release(lease, reason="drain", receipt={})
    (row,) = scene.database.run("attempt", token=lease.token)
    assert (row["outcome"], row["video_id"], row["tenant_id"]) == ("released", lease.video_id, 3)
    assert scene.database.run("attempt", token=open_one.token) == []


def whoever_ends_a_lease_waits_for_who_is_writing_the_row(scene: Scene) -> None:
    for name in ("fail", "release", "complete", "renew", "adopt", "redo"):
        lease = scene.cut()
        scene.chunks.done(taken(scene, lease), OBJECTS)
        other = uuid.uuid4()
        held = f"UPDATE video SET lease_token = '{other}', lease_epoch = lease_epoch + 1 WHERE id = {lease.video_id}"
        refused_after(scene.beside(held, lambda name=name, lease=lease: owner_writes(scene)[name](lease)))
        scene.expect_held(lease, token=other, epoch=2, plan=PLAN.fingerprint)
        assert scene.states(lease.video_id) == ["DONE", "TODO", "TODO"]
        scene.hand(lease.video_id, "status = 'FAILED'")


# ---- the owner is dead


def a_dead_owner_counts_a_loss_and_the_last_one_ends_it(scene: Scene) -> None:
    leases = scene.leases
    ends: list[tuple[str, Callable[[Lease], object]]] = [
        ("abandoned", lambda lease: leases.abandon(lease.token)),
        ("reclaimed", lambda lease: leases.try_reclaim_video(lease.video_id, force=True)),
    ]
    for outcome, end in ends:
        lease = scene.owned()
        scene.hand(lease.video_id, f"loss_count = {MAX_LOSSES - 2}, failure_count = 1, ring_count = 4")
        assert end(lease)
        row = {"epoch": 1, "due_in": 0, "ring_in": 0, "losses": MAX_LOSSES - 1, "failures": 1}
        scene.expect(lease.video_id, **row)
        again = scene.claim(lease.video_id)
        assert end(again)
        scene.expect(lease.video_id, status="FAILED", epoch=2, **CRASHED)
        assert scene.outcomes(lease.video_id) == [outcome, outcome]
        before = scene.seen(lease.video_id)
        end(lease)
        assert scene.seen(lease.video_id) == before


def a_dead_childs_token_names_one_row(scene: Scene) -> None:
    lease, other = scene.owned(), scene.owned()
    before = scene.seen(other.video_id)
    gone = scene.leases.abandon(lease.token)
    assert gone is not None
    assert (gone.video_id, gone.status) == (lease.video_id, Status.UPLOADED)
    assert scene.leases.abandon(lease.token) == gone
    assert scene.seen(other.video_id) == before
    assert scene.leases.abandon(uuid.uuid4()) is None
    scene.leases.try_reclaim_video(other.video_id, force=True)
    again = scene.claim(other.video_id)
    assert scene.leases.abandon(other.token) is None
    scene.expect_held(again, losses=1)


def abandon_and_reclaim_wait_for_the_owner_who_is_writing(scene: Scene) -> None:
    calls: list[Callable[[Lease], object]] = [
        lambda lease: scene.leases.abandon(lease.token),
        lambda lease: scene.leases.try_reclaim_video(lease.video_id),
    ]
    for call in calls:
        lease = scene.owned()
        scene.hand(lease.video_id, "leased_until = now() - interval '1 s'")
        held = f"UPDATE video SET status = 'READY', lease_token = NULL, leased_until = NULL WHERE id = {lease.video_id}"
        assert not waited(scene.beside(held, lambda call=call, lease=lease: call(lease)))
        assert scene.row(lease.video_id)["status"] == "READY"


def try_reclaim_takes_what_expired_or_what_it_is_told(scene: Scene) -> None:
    lease, other = scene.owned(), scene.owned()
    before = scene.seen(lease.video_id)
    assert not scene.leases.try_reclaim_video(lease.video_id)
    scene.advance(180)
    assert not scene.leases.try_reclaim_video(lease.video_id)
    assert scene.seen(lease.video_id) == before
    scene.advance(1)
    beside = scene.seen(other.video_id)
    assert scene.leases.try_reclaim_video(lease.video_id)
    assert scene.seen(other.video_id) == beside
    scene.hand(other.video_id, "leased_until = NULL")
    assert scene.leases.try_reclaim_video(other.video_id)
    assert not scene.leases.try_reclaim_video(other.video_id, force=True)


def f20_an_expired_lease_is_reclaimed(scene: Scene) -> None:
    """Also one that never had an end, and nothing else."""
    first, endless, marked, dying, live = (scene.owned() for _ in range(5))
    scene.hand(endless.video_id, "leased_until = NULL")
    scene.hand(marked.video_id, f"ring_count = 4, failure_count = 1, loss_count = 1, {MARK}")
    scene.hand(dying.video_id, f"ring_count = 4, failure_count = 1, loss_count = {MAX_LOSSES - 1}")
    scene.advance(180)
    only = [endless.video_id]
    assert [held.video_id for held in scene.sweeps.expired(9)] == only
    assert [held.lease_expired for held in scene.sweeps.processing_page(first.video_id, 2)] == [True, False]
    scene.advance(1)
    scene.leases.renew(live)
    before = scene.seen(live.video_id)
    gone = [lease.video_id for lease in (first, endless, marked, dying)]
    assert [held.video_id for held in scene.sweeps.expired(9)] == gone
    assert [held.video_id for held in scene.sweeps.expired(2)] == gone[:2]
    assert all(held.lease_expired for held in scene.sweeps.expired(9))
    page = scene.sweeps.processing_page(0, 5)
    assert [(held.video_id, held.lease_expired) for held in page] == [(v, True) for v in gone] + [
        (live.video_id, False)
    ]
    taken = scene.sweeps.reclaim_expired(1)
    assert len(taken) == 1
    taken += scene.sweeps.reclaim_expired(9)
    assert [(row.video_id, row.token) for row in taken] == [
        (lease.video_id, lease.token) for lease in (first, endless, marked, dying)
    ]
    for lease in (first, endless):
        scene.expect(lease.video_id, epoch=1, due_in=0, ring_in=0, losses=1)
    scene.expect(marked.video_id, status="FAILED", epoch=1, **CANCELLED)
    scene.expect(dying.video_id, status="FAILED", epoch=1, **CRASHED)
    assert [scene.outcomes(video) for video in gone] == [["reclaimed"]] * 4
    assert scene.seen(live.video_id) == before
    assert scene.sweeps.reclaim_expired(9) == []


def what_is_not_processing_never_expires(scene: Scene) -> None:
    """The platform moved the row by hand, and its old lease ran out."""
    lease = scene.owned()
    (held,) = [held for held in scene.sweeps.processing_page(0, 9) if held.video_id == lease.video_id]
    scene.hand(lease.video_id, "status = 'FAILED'")
    scene.advance(400)
    before = scene.seen(lease.video_id)
    assert scene.sweeps.expired(9) == []
    assert scene.sweeps.reclaim_expired(9) == []
    assert scene.sweeps.reclaim_silent([held], 60) == []
    assert not scene.leases.try_reclaim_video(lease.video_id, force=True)
    assert [found.video_id for found in scene.sweeps.processing_page(0, 9) if found.video_id < 1_000_000] == []
    assert scene.seen(lease.video_id) == before


def held_rows(scene: Scene, *leases: Lease | int) -> list[Held]:
    wanted = {lease.video_id if isinstance(lease, Lease) else lease for lease in leases}
    return [held for held in scene.sweeps.processing_page(0, 99) if held.video_id in wanted]


def f22_silence_needs_a_witness(scene: Scene) -> None:
    silent, marked, dying, fresh = (scene.owned() for _ in range(4))
    scene.hand(marked.video_id, f"ring_count = 4, failure_count = 1, loss_count = 1, {MARK}")
    scene.hand(dying.video_id, f"ring_count = 4, failure_count = 1, loss_count = {MAX_LOSSES - 1}")
    scene.advance(60)
    judged = held_rows(scene, silent, marked, dying, fresh)
    assert scene.sweeps.reclaim_silent(judged, 60) == []
    scene.advance(1)
    scene.leases.renew(fresh)
    before = scene.seen(fresh.video_id)
    assert [row.token for row in scene.sweeps.reclaim_silent(judged, 60)] == [silent.token, marked.token, dying.token]
    scene.expect(silent.video_id, epoch=1, due_in=0, ring_in=0, losses=1)
    scene.expect(marked.video_id, status="FAILED", epoch=1, **CANCELLED)
    scene.expect(dying.video_id, status="FAILED", epoch=1, **CRASHED)
    assert [scene.outcomes(lease.video_id) for lease in (silent, marked, dying)] == [["reclaimed"]] * 3
    assert scene.seen(fresh.video_id) == before
    assert [row.token for row in scene.sweeps.reclaim_silent(held_rows(scene, fresh), None)] == [fresh.token]


def what_was_judged_is_one_owner(scene: Scene) -> None:
    """Between the look and the write somebody else claimed it (F14); a row without a token, or not one of ours."""
    lease, foreign, other = scene.owned(), scene.owned(), scene.owned()
    scene.hand(foreign.video_id, "lease_token = NULL, renewed_at = NULL")
    judged = held_rows(scene, lease, foreign)
    scene.leases.abandon(lease.token)
    again = scene.claim(lease.video_id, OTHER)
    scene.hand(again.video_id, "renewed_at = now() - interval '1 hour'")
    scene.hand(other.video_id, "renewed_at = now() - interval '1 hour'")
    scene.hand(foreign.video_id, "leased_until = leased_until + interval '20 s'")
    before = [scene.seen(held.video_id) for held in (lease, foreign, other)]
    assert scene.sweeps.reclaim_silent(judged, 60) == []
    assert [scene.seen(held.video_id) for held in (lease, foreign, other)] == before
    assert [row.video_id for row in scene.sweeps.reclaim_silent(held_rows(scene, foreign), 60)] == [foreign.video_id]
    # With a token of ours a renewal moves leased_until, and the witness has heard of it: the token alone decides.
    judged = held_rows(scene, again)
    scene.hand(again.video_id, "leased_until = leased_until + interval '1 s'")
    assert [row.token for row in scene.sweeps.reclaim_silent(judged, 60)] == [again.token]


def reclaim_does_not_wait_for_an_owner_who_is_writing(scene: Scene) -> None:
    lease = scene.owned()
    scene.advance(400)
    judged = held_rows(scene, lease)
    held = f"UPDATE video SET renewed_at = now(), leased_until = now() + interval '180 s' WHERE id = {lease.video_id}"
    assert locked(scene.beside(held, lambda: scene.sweeps.reclaim_expired(9), end="ROLLBACK")) == []
    assert locked(scene.beside(held, lambda: scene.sweeps.reclaim_silent(judged, 60))) == []
    assert scene.outcomes(lease.video_id) == [None]


# ---- cancel, resubmit, rings, the tick


def a_cancel_ends_what_waits_marks_what_runs_and_ignores_the_rest(scene: Scene) -> None:
    waiting, lease, over = scene.submit(), scene.owned(), scene.owned()
    complete(scene, over)
    before = scene.seen(over.video_id)
    answers = [scene.leases.cancel(video) for video in (waiting, lease.video_id, over.video_id, 10**9)]
    assert answers == ["cancelled", "requested", "ignored", "unknown"]
    scene.expect(waiting, status="FAILED", **CANCELLED)
    scene.expect_held(lease, cancel=True)
    assert scene.seen(over.video_id) == before
    scene.leases.resubmit(waiting)
    again = scene.claim(waiting)
    scene.expect_held(again, epoch=1)


def a_cancel_hears_how_the_run_ended(scene: Scene) -> None:
    lease = scene.owned()
    held = f"UPDATE video SET status = 'READY', lease_token = NULL WHERE id = {lease.video_id}"
    assert waited(scene.beside(held, lambda: scene.leases.cancel(lease.video_id))) == "ignored"
    assert scene.row(lease.video_id)["cancel"] is False


def only_what_is_over_is_submitted_again(scene: Scene) -> None:
    waiting, lease, failed, ready = scene.submit(), scene.owned(), scene.owned(), scene.owned()
    scene.hand(waiting, "run_after = now() + interval '9 s'")
    scene.leases.fail(failed, FINAL, receipt={})
    complete(scene, ready)
    before = scene.seen(waiting), scene.seen(lease.video_id)
    answers = [scene.leases.resubmit(v) for v in (waiting, lease.video_id, failed.video_id, ready.video_id)]
    assert answers == [False, False, True, True]
    assert (scene.seen(waiting), scene.seen(lease.video_id)) == before
    scene.expect(failed.video_id, epoch=1, due_in=0, ring_in=0)
    scene.expect(ready.video_id, epoch=1, due_in=0, ring_in=0, hls_path=f"hls/{ready.token}")


def only_what_is_pending_is_handed_in(scene: Scene) -> None:
    pending, other, waiting, lease = scene.submit(), scene.submit(), scene.submit(), scene.owned()
    for video in (pending, other):
        scene.hand(video, "status = 'PENDING', run_after = now() + interval '9 s', next_ring_at = NULL, ring_count = 4")
    scene.hand(waiting, "run_after = now() + interval '9 s'")
    before = [scene.seen(video) for video in (other, waiting, lease.video_id)]
    assert [scene.leases.hand_in(video) for video in (pending, waiting, lease.video_id)] == [True, False, False]
    assert [scene.seen(video) for video in (other, waiting, lease.video_id)] == before
    scene.expect(pending, due_in=0, ring_in=0)


def a_ring_is_noted_and_comes_later_each_time(scene: Scene) -> None:
    video, held = scene.submit(), scene.owned()
    later = scene.submit()
    scene.hand(later, "run_after = now() + interval '1 year'")
    before = scene.seen(held.video_id), scene.seen(later)
    for count, wait in ((1, 60), (2, 120), (3, 240)):
        (ring,) = scene.sweeps.due_rings(10, 60)
        assert (ring.video_id, ring.ring_count) == (video, count)
        scene.expect(video, due_in=scene.row(video)["due_in"], ring_in=wait, rings=count)
        scene.advance(wait - 1)
        assert scene.sweeps.due_rings(10, 60) == []
        scene.advance(1)
    assert (scene.seen(held.video_id), scene.seen(later)) == before


def rings_are_taken_by_the_page(scene: Scene) -> None:
    videos = [scene.submit() for _ in range(3)]
    assert [ring.video_id for ring in scene.sweeps.due_rings(2, 60)] == videos[:2]
    assert [ring.video_id for ring in scene.sweeps.due_rings(2, 60)] == videos[2:]


def a_ring_that_nobody_heard_is_due_again(scene: Scene) -> None:
    video, heard, held = scene.submit(), scene.submit(), scene.submit()
    scene.sweeps.due_rings(10, 60)
    scene.claim(held)
    before = scene.seen(heard), scene.seen(held)
    scene.sweeps.ring_failed([video, held])
    scene.expect(video, due_in=0, ring_in=0)
    assert (scene.seen(heard), scene.seen(held)) == before


def one_host_ticks(scene: Scene) -> None:
    first = scene.sweeps.win_tick("a", 15)
    assert (first.won, first.since_last_seconds) == (True, None)
    scene.advance(14)
    assert (scene.sweeps.win_tick("b", 15).won, scene.sweeps.win_tick("b", 15).since_last_seconds) == (False, 14)
    scene.advance(1)
    assert scene.sweeps.win_tick("b", 15).won
    held = "UPDATE reconcile_tick SET host = 'c' WHERE video_table = 'video'"
    scene.advance(15)
    assert not locked(scene.beside(held, lambda: scene.sweeps.win_tick("b", 15))).won
