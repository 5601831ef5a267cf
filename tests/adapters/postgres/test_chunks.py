"""Who encodes which chunk: owners, earlier owners, assistants, and the ends that stop them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from appliance.adapters.postgres.chunks import MAX_ASSISTANTS, Assist, Chunks
from appliance.domain.errors import LeaseLost
from appliance.domain.plan import Chunk, Grid, Plan
from appliance.domain.video import ChunkLease, DoneChunk, Lease, Worker
from tests.adapters.postgres.stage import (
    CHUNK_LEASE_SECONDS,
    CLOCK_PATH,
    LEASE_SECONDS,
    MAX_LOSSES,
    claimed,
    make_leases,
)

HELPER = Worker("host-b", "host-b/1")
BUILD = "ffmpeg-9"
OBJECTS = {"prefix": "hls/1/media/f/1-t", "tracks": []}
PLAN = Plan(
    fingerprint="first-plan",
    origin_ticks=0,
    grid=Grid(25, 1, 7500, 50, 150),
    video=None,
    audio=None,
    chunks=tuple(Chunk(number, 10 * number, 10, 1500 * number, 1500) for number in range(4)),
)


@pytest.fixture
def lease(leases, chunks) -> Lease:
    """A video that is owned and cut into chunks 0 to 3."""
    lease = claimed(leases, leases.submit("a.mp4", 3))
    chunks.adopt(lease, PLAN, BUILD)
    return lease


def take(chunks: Chunks, lease: Lease) -> ChunkLease:
    chunk = chunks.claim_chunk(lease, uuid.uuid4())
    assert chunk is not None
    return chunk


def assist(chunks: Chunks) -> Assist | None:
    return chunks.claim_assist(HELPER, uuid.uuid4(), BUILD)


def next_owner(leases, lease: Lease) -> Lease:
    """The owner died and somebody else claimed the video."""
    leases.abandon(lease.token)
    return claimed(leases, lease.video_id, Worker("host-c", "host-c/1"))


def numbers(done: list[DoneChunk]) -> list[int]:
    return [chunk.number for chunk in done]


def test_adopting_a_plan_writes_it_with_its_chunks(lease, admin) -> None:
    assert admin.row(lease.video_id)["plan"] == "first-plan"
    (plan,) = admin("SELECT * FROM video_plan")
    assert Plan.from_json(plan["plan"]) == PLAN
    assert (plan["fingerprint"], plan["build"]) == ("first-plan", BUILD)
    assert [(row["number"], row["state"]) for row in admin.chunks(lease.video_id)] == [(n, "TODO") for n in range(4)]


def test_chunks_are_taken_lowest_number_first_until_none_is_free(chunks, lease) -> None:
    assert [take(chunks, lease).number for _ in range(4)] == [0, 1, 2, 3]
    assert chunks.claim_chunk(lease, uuid.uuid4()) is None


def test_a_done_chunk_keeps_what_its_encoder_recorded(chunks, lease, admin) -> None:
    chunk = take(chunks, lease)
    chunks.done(chunk, OBJECTS)
    assert chunks.done_chunks(lease, PLAN.fingerprint) == [DoneChunk(0, chunk.token, lease.epoch, OBJECTS)]
    row = admin.chunks(lease.video_id)[0]
    assert (row["state"], row["leased_until"], row["worker"]) == ("DONE", None, lease.worker.name)


def test_a_newly_finished_chunk_resets_the_losses(leases, chunks, lease, admin) -> None:
    again = next_owner(leases, lease)
    assert admin.row(lease.video_id)["loss_count"] == 1
    chunk = take(chunks, again)
    chunks.done(chunk, OBJECTS)
    assert admin.row(lease.video_id)["loss_count"] == 0
    admin("UPDATE video SET loss_count = 2")
    chunks.done(chunk, OBJECTS)  # the same again is not new
    assert admin.row(lease.video_id)["loss_count"] == 2


def test_f02_the_next_owner_does_only_the_missing_chunks(leases, chunks, lease) -> None:
    chunks.done(take(chunks, lease), OBJECTS)
    take(chunks, lease)
    again = next_owner(leases, lease)
    chunks.adopt(again, PLAN)
    (resumed,) = chunks.done_chunks(again, PLAN.fingerprint)
    assert resumed.epoch < again.epoch
    assert [take(chunks, again).number for _ in range(3)] == [1, 2, 3]


def test_an_earlier_owners_chunk_is_taken_at_once_and_its_writes_change_nothing(leases, chunks, lease, admin) -> None:
    stale = take(chunks, lease)
    again = next_owner(leases, lease)
    assert take(chunks, again).number == stale.number
    before = admin.chunks(lease.video_id)
    for write in (chunks.renew_chunk, lambda chunk: chunks.done(chunk, OBJECTS), chunks.release_chunk):
        with pytest.raises(LeaseLost):
            write(stale)
    assert chunks.abandon_chunk(stale.token) is False
    assert admin.chunks(lease.video_id) == before


def test_an_owner_does_not_take_its_own_running_chunk_again(chunks, lease) -> None:
    """One is encoded while the one before is uploaded."""
    first, second = take(chunks, lease), take(chunks, lease)
    assert (first.number, second.number) == (0, 1)


def test_only_a_finished_chunk_is_thrown_away(chunks, lease, admin) -> None:
    take(chunks, lease)
    before = admin.chunks(lease.video_id)
    chunks.redo(lease, 0)
    assert admin.chunks(lease.video_id) == before


@pytest.mark.parametrize("ended_by", ["a new owner", "the platform"])
def test_f13_a_former_owner_neither_cuts_nor_takes_nor_throws_away(leases, chunks, lease, admin, ended_by) -> None:
    chunks.done(take(chunks, lease), OBJECTS)
    if ended_by == "a new owner":
        next_owner(leases, lease)
    else:
        admin("UPDATE video SET status = 'FAILED'")  # by hand, and nothing else
    before = admin.chunks(lease.video_id)
    assert chunks.claim_chunk(lease, uuid.uuid4()) is None
    with pytest.raises(LeaseLost):
        chunks.redo(lease, 0)
    with pytest.raises(LeaseLost):
        chunks.adopt(lease, replace(PLAN, fingerprint="stale-plan"))
    assert admin.chunks(lease.video_id) == before
    assert admin.row(lease.video_id)["plan"] == "first-plan"
    assert len(admin("SELECT fingerprint FROM video_plan")) == 1


def test_a_renewed_chunk_of_an_assistant_stays_and_an_expired_one_is_taken(chunks, clock, lease) -> None:
    first = assist(chunks).chunk
    clock.advance(CHUNK_LEASE_SECONDS - 1)
    chunks.renew_chunk(first)
    clock.advance(CHUNK_LEASE_SECONDS)
    assert take(chunks, lease).number == 1
    clock.advance(1)
    again = take(chunks, lease)
    assert (again.number, again.attempts) == (0, 2)


def test_f24_a_chunk_that_its_owner_could_not_renew_is_taken_neither_by_itself_nor_by_an_assistant(
    chunks, clock, lease
) -> None:
    late = take(chunks, lease)
    clock.advance(10 * CHUNK_LEASE_SECONDS)
    assert [take(chunks, lease).number, assist(chunks).chunk.number] == [late.number + 1, late.number + 2]
    chunks.renew_chunk(late)
    chunks.done(late, OBJECTS)


def test_a_chunk_that_ran_late_is_done_as_long_as_nobody_took_it(chunks, clock, lease) -> None:
    chunk = take(chunks, lease)
    clock.advance(10 * CHUNK_LEASE_SECONDS)
    chunks.done(chunk, OBJECTS)
    assert numbers(chunks.done_chunks(lease, PLAN.fingerprint)) == [0]


def test_a_released_chunk_is_free_at_once(chunks, lease) -> None:
    chunks.release_chunk(take(chunks, lease))
    assert take(chunks, lease).number == 0


def test_f02_a_dead_childs_chunk_is_free_at_once(chunks, lease) -> None:
    chunk = take(chunks, lease)
    assert chunks.abandon_chunk(chunk.token) is True
    assert chunks.abandon_chunk(chunk.token) is False
    assert take(chunks, lease).number == 0


def test_many_hands_never_take_the_same_chunk(open_database, leases, chunks) -> None:
    lease = claimed(leases, leases.submit("a.mp4", 3))
    chunks.adopt(lease, replace(PLAN, chunks=tuple(Chunk(n, n, 1, n, 1) for n in range(40))))

    def work(_: int) -> list[int]:
        own = Chunks(open_database(search_path=CLOCK_PATH), chunk_lease_seconds=CHUNK_LEASE_SECONDS)
        taken = []
        while chunk := own.claim_chunk(lease, uuid.uuid4()):
            taken.append(chunk.number)
        return taken

    with ThreadPoolExecutor(6) as threads:
        taken = [number for found in threads.map(work, range(6)) for number in found]
    assert sorted(taken) == list(range(40))


# -- redo


def test_a_chunk_whose_proof_failed_is_done_again(chunks, lease) -> None:
    chunks.done(take(chunks, lease), OBJECTS)
    chunks.redo(lease, 0)
    chunks.redo(lease, 0)
    assert chunks.done_chunks(lease, PLAN.fingerprint) == []
    assert take(chunks, lease).number == 0


# -- another plan, and the ends of a video


def test_f53_another_plan_ends_the_chunks_of_the_old_one(chunks, lease, admin) -> None:
    assistant, own = assist(chunks).chunk, take(chunks, lease)
    new = replace(PLAN, fingerprint="second-plan")
    chunks.adopt(lease, new)
    before = admin.chunks(lease.video_id)
    for chunk in (assistant, own):
        with pytest.raises(LeaseLost):
            chunks.renew_chunk(chunk)
        with pytest.raises(LeaseLost):
            chunks.done(chunk, OBJECTS)
    assert admin.chunks(lease.video_id) == before
    assert chunks.done_chunks(lease, new.fingerprint) == []
    assert take(chunks, lease).plan == new.fingerprint


def test_going_back_to_an_earlier_plan_finds_its_finished_chunks(chunks, lease) -> None:
    chunks.done(take(chunks, lease), OBJECTS)
    chunks.adopt(lease, replace(PLAN, fingerprint="second-plan"))
    chunks.adopt(lease, PLAN)
    assert numbers(chunks.done_chunks(lease, PLAN.fingerprint)) == [0]


@pytest.mark.parametrize("end", ["READY", "FAILED", "cancel"])
def test_the_end_of_a_video_ends_its_assistants(leases, chunks, lease, end) -> None:
    chunk = assist(chunks).chunk
    if end == "READY":
        leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    if end == "FAILED":
        leases.cancelled(lease, receipt={})
    if end == "cancel":
        leases.cancel(lease.video_id)
    with pytest.raises(LeaseLost):
        chunks.renew_chunk(chunk)
    with pytest.raises(LeaseLost):
        chunks.done(chunk, OBJECTS)


def test_a_cancelled_owner_is_stopped_by_its_own_lease_and_not_by_its_chunk(leases, chunks, lease) -> None:
    chunk = take(chunks, lease)
    leases.cancel(lease.video_id)
    chunks.renew_chunk(chunk)
    assert leases.renew(lease) is True


# -- assistants


def test_who_only_counts_is_spared_the_objects(chunks, lease) -> None:
    chunks.done(assist(chunks).chunk, OBJECTS)
    (bare,) = chunks.done_chunks(lease, PLAN.fingerprint, whole=False)
    (whole,) = chunks.done_chunks(lease, PLAN.fingerprint)
    assert (bare, whole.objects) == (replace(whole, objects={}), OBJECTS)


def test_an_assistant_gets_a_chunk_with_the_plan_and_the_source(chunks, lease) -> None:
    take(chunks, lease)
    help_ = assist(chunks)
    assert (help_.chunk.number, help_.plan, help_.tenant_id, help_.file_key) == (1, PLAN, 3, "a.mp4")
    chunks.renew_chunk(help_.chunk)
    chunks.done(help_.chunk, OBJECTS)
    assert numbers(chunks.done_chunks(lease, PLAN.fingerprint)) == [1]


def test_nobody_assists_while_a_video_waits_for_an_encoder(leases, chunks, lease, clock) -> None:
    waiting = leases.submit("b.mp4", 3)
    assert assist(chunks) is None
    leases.release(claimed(leases, waiting), run_after_seconds=60, reason="too big", receipt={})
    assert assist(chunks) is not None
    clock.advance(60)
    assert assist(chunks) is None


@pytest.mark.parametrize("reason", ["another ffmpeg", "another release's plan", "cancel", "no owner"])
def test_nobody_assists_where_it_would_be_in_vain(leases, chunks, lease, admin, reason) -> None:
    if reason == "another release's plan":
        admin("UPDATE video_plan SET plan = jsonb_set(plan, '{revision}', '1')")
    if reason == "cancel":
        leases.cancel(lease.video_id)
    if reason == "no owner":
        leases.release(lease, run_after_seconds=60, reason="drain", receipt={})
    build = "ffmpeg-8" if reason == "another ffmpeg" else BUILD
    assert chunks.claim_assist(HELPER, uuid.uuid4(), build) is None
    assert not chunks.help_wanted(build)


def test_help_is_wanted_while_a_chunk_is_free_or_about_to_be(leases, chunks, clock) -> None:
    assert not chunks.help_wanted(BUILD)
    lease = claimed(leases, leases.submit("a.mp4", 3))
    assert chunks.help_wanted(BUILD)  # its plan is being made
    chunks.adopt(lease, PLAN, BUILD)
    taken = [take(chunks, lease), *(assist(chunks).chunk for _ in range(3))]
    assert not chunks.help_wanted(BUILD)
    leases.submit("b.mp4", 3)
    chunks.release_chunk(taken[1])
    assert chunks.help_wanted(BUILD)
    assert assist(chunks) is None  # the waiting video comes first
    chunks.claim_chunk(lease, uuid.uuid4())
    assert not chunks.help_wanted(BUILD)
    clock.advance(CHUNK_LEASE_SECONDS + 1)
    assert chunks.help_wanted(BUILD)


def test_a_chunk_that_failed_in_two_assistants_is_left_to_the_owner(chunks, lease, admin) -> None:
    for _ in range(MAX_ASSISTANTS):
        chunk = assist(chunks).chunk
        assert chunk.number == 0
        chunks.release_chunk(chunk, failed=True)
    assert assist(chunks).chunk.number == 1
    own = take(chunks, lease)
    chunks.release_chunk(own, failed=True)
    assert own.number == 0
    assert admin.chunks(lease.video_id)[0]["assistant_losses"] == MAX_ASSISTANTS


def test_an_assistant_that_never_learnt_what_it_took_did_not_die_of_it(chunks, lease, admin) -> None:
    token = assist(chunks).chunk.token
    assert chunks.abandon_chunk(token, died=False)
    assert not chunks.abandon_chunk(token, died=False)
    assert (admin.chunks(lease.video_id)[0]["state"], admin.chunks(lease.video_id)[0]["assistant_losses"]) == (
        "TODO",
        0,
    )


def test_f51_assistants_survive_the_owners_death(leases, chunks, lease, clock) -> None:
    """They finish between owners and under the next one, who finds their chunks as resumed ones."""
    early, late = assist(chunks).chunk, assist(chunks).chunk
    leases.abandon(lease.token)
    chunks.renew_chunk(early)
    chunks.done(early, OBJECTS)
    again = claimed(leases, lease.video_id)
    chunks.adopt(again, PLAN, BUILD)
    assert take(chunks, again).number == 2  # an assistant's chunk is not taken over
    chunks.renew_chunk(late)
    chunks.done(late, OBJECTS)
    found = chunks.done_chunks(again, PLAN.fingerprint)
    assert numbers(found) == [early.number, late.number]
    assert all(chunk.epoch < again.epoch for chunk in found)


def test_f52_a_silent_assistants_chunk_is_taken_when_its_lease_ends(chunks, lease, clock) -> None:
    silent = assist(chunks).chunk
    assert take(chunks, lease).number != silent.number
    clock.advance(CHUNK_LEASE_SECONDS + 1)
    assert take(chunks, lease).number == silent.number
    with pytest.raises(LeaseLost):
        chunks.done(silent, OBJECTS)


def test_f54_a_chunk_that_killed_two_assistants_is_left_to_the_owner(leases, chunks, lease, clock, admin) -> None:
    admin("DELETE FROM video_chunk WHERE number > 0")
    died = assist(chunks)
    chunks.abandon_chunk(died.chunk.token)
    assert admin.chunks(lease.video_id)[0]["assistant_losses"] == 1
    assert assist(chunks) is not None
    clock.advance(CHUNK_LEASE_SECONDS + 1)  # the second hangs
    assert assist(chunks) is None
    own = take(chunks, lease)
    assert (own.number, admin.chunks(lease.video_id)[0]["assistant_losses"]) == (0, MAX_ASSISTANTS)
    chunks.release_chunk(own)
    assert assist(chunks) is None
    for _ in range(MAX_LOSSES):
        take(chunks, lease)
        abandoned = leases.abandon(lease.token)
        lease = leases.claim(lease.video_id, HELPER, uuid.uuid4())
    assert abandoned.status == "FAILED"


def test_an_assistant_that_gives_a_chunk_back_did_not_die_of_it(chunks, lease, admin) -> None:
    for _ in range(3):
        chunks.release_chunk(assist(chunks).chunk)
    assert admin.chunks(lease.video_id)[0]["assistant_losses"] == 0


# -- lost answers


@pytest.mark.parametrize("fault", ["swallow", "drop"])
def test_f11_an_uncertain_claim_of_a_chunk_takes_one(proxy, open_database, chunks, lease, admin, fault) -> None:
    shaky = Chunks(open_database(dsn=proxy.dsn, search_path=CLOCK_PATH), chunk_lease_seconds=CHUNK_LEASE_SECONDS)
    getattr(proxy, fault)("claim_chunk")
    chunk = take(shaky, lease)
    assert proxy.acted
    running = [row for row in admin.chunks(lease.video_id) if row["state"] == "RUNNING"]
    assert [(row["number"], row["token"]) for row in running] == [(chunk.number, str(chunk.token))]


@pytest.mark.parametrize("fault", ["swallow", "drop"])
@pytest.mark.parametrize("statement", ["adopt", "done", "redo"])
def test_f12_an_uncertain_write_of_a_chunk_is_settled(proxy, open_database, leases, fault, statement) -> None:
    database = open_database(dsn=proxy.dsn, search_path=CLOCK_PATH)
    shaky = Chunks(database, chunk_lease_seconds=CHUNK_LEASE_SECONDS)
    lease = claimed(make_leases(database), leases.submit("a.mp4", 3))
    getattr(proxy, fault)(statement)
    shaky.adopt(lease, PLAN)
    shaky.done(take(shaky, lease), OBJECTS)
    assert numbers(shaky.done_chunks(lease, PLAN.fingerprint)) == [0]
    shaky.redo(lease, 0)
    assert shaky.done_chunks(lease, PLAN.fingerprint) == []
    assert proxy.acted


def test_the_video_lease_and_the_chunk_lease_are_apart(leases, chunks, lease, clock) -> None:
    chunk = take(chunks, lease)
    clock.advance(LEASE_SECONDS - 1)
    leases.renew(lease)
    clock.advance(1)
    chunks.renew_chunk(chunk)
