"""The battery's second half: what the statements of chunks promise."""

from __future__ import annotations

import uuid
from dataclasses import replace

from appliance.adapters.postgres.chunks import MAX_ASSISTANTS
from appliance.domain.plan import Plan
from appliance.domain.video import ChunkLease, Lease
from tests.adapters.postgres.battery import (
    MARK,
    OTHER,
    chunk_writes,
    complete,
    locked,
    refused,
    taken,
)
from tests.adapters.postgres.scene import BUILD, HELPER, OBJECTS, PLAN, Scene, make_plan


def next_owner(scene: Scene, lease: Lease) -> Lease:
    scene.leases.abandon(lease.token)
    return scene.claim(lease.video_id, OTHER)


def helped(scene: Scene) -> ChunkLease:
    found = scene.assist()
    assert found is not None
    return found.chunk


def chunk_row(scene: Scene, chunk: ChunkLease) -> dict:
    (row,) = scene.admin(
        "SELECT * FROM video_chunk WHERE video_id = %s AND plan = %s AND number = %s",
        chunk.video_id,
        chunk.plan,
        chunk.number,
    )
    return row


def a_plan_is_adopted_as_often_as_one_likes(scene: Scene) -> None:
    lease = scene.cut()
    scene.chunks.done(taken(scene, lease), OBJECTS)
    scene.chunks.adopt(lease, PLAN, BUILD)
    assert scene.states(lease.video_id) == ["DONE", "TODO", "TODO"]
    scene.expect_held(lease, plan=PLAN.fingerprint)


def the_lowest_free_chunk_is_taken_and_only_that(scene: Scene) -> None:
    lease, other = scene.cut(), scene.cut()
    before = scene.seen(other.video_id)
    scene.chunks.done(taken(scene, lease), OBJECTS)
    scene.chunks.adopt(lease, make_plan("old-plan"), BUILD)
    scene.chunks.adopt(lease, PLAN, BUILD)
    for number, states in ((1, ["DONE", "RUNNING", "TODO"]), (2, ["DONE", "RUNNING", "RUNNING"])):
        chunk = taken(scene, lease)
        assert (chunk.number, chunk.plan) == (number, PLAN.fingerprint)
        assert scene.states(lease.video_id) == states
    assert scene.take(lease) is None
    assert scene.states(lease.video_id, "old-plan") == ["TODO"] * 3
    assert scene.seen(other.video_id) == before


def a_chunk_asked_for_again_is_the_same_chunk(scene: Scene) -> None:
    lease, token = scene.cut(), uuid.uuid4()
    first = scene.chunks.claim_chunk(lease, token)
    second = scene.chunks.claim_chunk(lease, token)
    assert (first.number, second.number) == (0, 0)
    scene.chunks.done(second, OBJECTS)
    third = scene.chunks.claim_chunk(lease, token)  # the token of a finished chunk takes another one
    assert third.number == 1
    assert scene.states(lease.video_id) == ["DONE", "RUNNING", "TODO"]


def an_assistants_expired_chunk_is_taken_and_a_live_one_or_the_owners_own_is_not(scene: Scene) -> None:
    lease = scene.cut(make_plan(chunks=1))
    own = taken(scene, lease)
    scene.advance(61)
    assert scene.take(lease) is None
    assert scene.assist() is None
    scene.chunks.release_chunk(own)
    chunk = helped(scene)
    scene.advance(60)
    assert scene.take(lease) is None
    assert scene.assist() is None
    scene.advance(1)
    again = helped(scene)
    assert (again.number, again.attempts) == (chunk.number, 3)
    scene.advance(61)
    assert taken(scene, lease).attempts == 4


def an_earlier_owners_chunk_is_taken_at_once_and_an_assistants_is_not(scene: Scene) -> None:
    lease = scene.cut()
    scene.chunks.done(taken(scene, lease), OBJECTS)
    mine, helpers = taken(scene, lease), helped(scene)
    again = next_owner(scene, lease)
    assert [taken(scene, again).number, scene.take(again)] == [mine.number, None]
    assert helpers.number == 2
    assert scene.states(lease.video_id) == ["DONE", "RUNNING", "RUNNING"]


def a_chunk_is_done_once(scene: Scene) -> None:
    lease = scene.cut()
    chunk = taken(scene, lease)
    untouched = scene.admin("SELECT xmin::text FROM video WHERE id = %s", lease.video_id)
    scene.chunks.done(chunk, OBJECTS)
    assert scene.admin("SELECT xmin::text FROM video WHERE id = %s", lease.video_id) == untouched, "nothing to reset"
    scene.hand(lease.video_id, "loss_count = 2")
    before = scene.seen(lease.video_id)
    scene.chunks.done(chunk, {"prefix": "another", "tracks": []})
    refused(scene.chunks.renew_chunk, chunk)
    refused(scene.chunks.release_chunk, chunk)
    assert scene.chunks.abandon_chunk(chunk.token) is False
    assert scene.seen(lease.video_id) == before
    (found,) = scene.chunks.done_chunks(lease, PLAN.fingerprint)
    assert (found.number, found.token, found.objects) == (0, chunk.token, OBJECTS)


def progress_resets_the_losses_of_its_video_alone(scene: Scene) -> None:
    lease, other = scene.cut(), scene.owned()
    scene.hand(lease.video_id, "loss_count = 2")
    scene.hand(other.video_id, "loss_count = 2")
    before = scene.seen(other.video_id)
    scene.chunks.done(taken(scene, lease), OBJECTS)
    scene.expect_held(lease, plan=PLAN.fingerprint)
    assert scene.seen(other.video_id) == before


def a_chunks_lease_is_renewed(scene: Scene) -> None:
    lease = scene.cut()
    chunk, other = taken(scene, lease), taken(scene, lease)
    scene.advance(50)
    before = chunk_row(scene, other)
    scene.chunks.renew_chunk(chunk)
    (left,) = scene.admin(
        "SELECT extract(epoch FROM leased_until - now())::float8 AS seconds FROM video_chunk WHERE token = %s",
        chunk.token,
    )
    assert left["seconds"] == 60
    assert chunk_row(scene, other) == before


def a_chunks_token_is_good_for_that_chunk_alone(scene: Scene) -> None:
    lease, beside = scene.cut(), scene.cut()
    for owner in (lease, beside):
        scene.chunks.adopt(owner, make_plan("second-plan"), BUILD)
        scene.chunks.adopt(owner, PLAN, BUILD)
    for name in chunk_writes(scene):
        chunk = taken(scene, lease)
        others = [
            replace(chunk, video_id=beside.video_id),
            replace(chunk, plan="second-plan"),
            replace(chunk, number=(chunk.number + 1) % 3),
            replace(chunk, token=uuid.uuid4()),
        ]
        before = scene.seen(lease.video_id), scene.seen(beside.video_id)
        for other in others:
            refused(chunk_writes(scene)[name], other)
            assert (scene.seen(lease.video_id), scene.seen(beside.video_id)) == before, name
        chunk_writes(scene)[name](chunk)
        if name != "release_chunk":
            continue
        assert scene.states(lease.video_id)[chunk.number] == "TODO"


def chunk_and_plan_are_read_by_their_whole_key(scene: Scene) -> None:
    lease, beside = scene.cut(), scene.cut()
    for owner in (beside, lease):
        scene.chunks.adopt(owner, make_plan("second-plan"), BUILD)
        scene.chunks.done(taken(scene, owner), OBJECTS)
        scene.chunks.adopt(owner, PLAN, BUILD)
        scene.chunks.done(taken(scene, owner), OBJECTS)
    chunk = taken(scene, lease)
    assert [done.number for done in scene.chunks.done_chunks(lease, PLAN.fingerprint)] == [0]
    assert [done.number for done in scene.chunks.done_chunks(beside, "second-plan")] == [0]
    (row,) = scene.database.run("chunk", video_id=chunk.video_id, plan=chunk.plan, number=chunk.number)
    assert (row["state"], row["token"]) == ("RUNNING", chunk.token)
    (row,) = scene.database.run("plan", video_id=lease.video_id, plan="second-plan")
    assert Plan.from_json(row["plan"]) == make_plan("second-plan")
    assert row["file_key"] == "a.mp4"
    named = replace(make_plan("third-plan"), recipe="this one's")
    scene.chunks.adopt(lease, named, BUILD)
    assert scene.chunks.known_plan(lease, "this one's") == named
    assert [scene.chunks.known_plan(*other) for other in ((beside, "this one's"), (lease, "another"))] == [None, None]
    scene.chunks.adopt(lease, replace(named, recipe="another"), BUILD)
    assert scene.chunks.known_plan(lease, "another") == replace(named, recipe="another")


def what_ended_the_video_ends_its_chunks(scene: Scene) -> None:
    """READY, FAILED, a new plan: renew and done change nothing; a drained video's go on (F51, F53)."""
    for assignments in ("status = 'READY'", "status = 'FAILED'", "plan = 'another-plan'"):
        for name in ("renew_chunk", "done"):
            lease = scene.cut()
            mine, helpers = taken(scene, lease), helped(scene)
            scene.hand(lease.video_id, assignments)
            before = scene.seen(lease.video_id)
            refused(chunk_writes(scene)[name], mine)
            refused(chunk_writes(scene)[name], helpers)
            assert scene.seen(lease.video_id) == before
            scene.hand(lease.video_id, "status = 'FAILED'")
    lease = scene.cut()
    mine, helpers = taken(scene, lease), helped(scene)
    scene.leases.release(lease, reason="drain", run_after_seconds=3600, receipt={})
    for chunk in (mine, helpers):
        scene.chunks.renew_chunk(chunk)
        scene.chunks.done(chunk, OBJECTS)
    assert scene.states(lease.video_id) == ["DONE", "DONE", "TODO"]


def a_cancel_stops_assistants_and_leaves_the_owner_to_its_lease(scene: Scene) -> None:
    lease = scene.cut()
    mine, helpers = taken(scene, lease), helped(scene)
    scene.hand(lease.video_id, MARK)
    assert scene.assist() is None
    for name in ("renew_chunk", "done"):
        before = scene.seen(lease.video_id)
        refused(chunk_writes(scene)[name], helpers)
        assert scene.seen(lease.video_id) == before
        chunk_writes(scene)[name](mine)


def a_chunk_goes_back_when_it_is_let_go(scene: Scene) -> None:
    lease = scene.cut()
    first, second = taken(scene, lease), taken(scene, lease)
    scene.chunks.release_chunk(first)
    assert scene.states(lease.video_id) == ["TODO", "RUNNING", "TODO"]
    assert scene.chunks.abandon_chunk(second.token) is True
    assert scene.states(lease.video_id) == ["TODO"] * 3
    assert [row["assistant_losses"] for row in scene.admin.chunks(lease.video_id)] == [0, 0, 0]


def only_what_is_done_is_thrown_away(scene: Scene) -> None:
    lease, other = scene.cut(), scene.cut()
    for owner in (lease, other):
        scene.chunks.adopt(owner, make_plan("second-plan"), BUILD)
        scene.chunks.done(taken(scene, owner), OBJECTS)
        scene.chunks.adopt(owner, PLAN, BUILD)
        scene.chunks.done(taken(scene, owner), OBJECTS)
        scene.chunks.done(taken(scene, owner), OBJECTS)
        taken(scene, owner)
    before = scene.seen(other.video_id)
    scene.chunks.redo(lease, 2)
    assert scene.states(lease.video_id) == ["DONE", "DONE", "RUNNING"]
    scene.chunks.redo(lease, 0)
    scene.chunks.redo(lease, 0)
    assert scene.states(lease.video_id) == ["TODO", "DONE", "RUNNING"]
    assert scene.states(lease.video_id, "second-plan") == ["DONE", "TODO", "TODO"]
    assert scene.seen(other.video_id) == before


# ---- assistants


def an_assistant_takes_one_chunk_of_somebody_elses_video(scene: Scene) -> None:
    lease = scene.cut()
    other = scene.cut()
    scene.chunks.done(taken(scene, lease), OBJECTS)
    scene.chunks.adopt(lease, make_plan("old-plan"), BUILD)
    scene.chunks.adopt(lease, PLAN, BUILD)
    before = scene.seen(other.video_id)
    found = scene.assist()
    assert found is not None
    assert (found.chunk.video_id, found.chunk.number, found.plan) == (lease.video_id, 1, PLAN)
    assert (found.file_key, found.tenant_id) == ("a.mp4", 3)
    assert scene.states(lease.video_id) == ["DONE", "RUNNING", "TODO"]
    assert scene.states(lease.video_id, "old-plan") == ["TODO"] * 3
    assert scene.seen(other.video_id) == before


def only_a_running_video_with_the_same_ffmpeg_is_helped(scene: Scene) -> None:
    lease = scene.cut()
    scene.chunks.adopt(lease, make_plan("second-plan"), "another build")
    assert scene.assist() is None
    scene.chunks.adopt(lease, PLAN, BUILD)
    assert scene.assist("a third build") is None
    scene.leases.release(lease, run_after_seconds=60, reason="drain", receipt={})
    assert scene.assist() is None
    scene.hand(lease.video_id, "run_after = now()")
    complete(scene, scene.claim(lease.video_id))
    assert scene.assist() is None
    assert scene.states(lease.video_id) == ["TODO"] * 3


def a_video_of_ones_own_comes_first(scene: Scene) -> None:
    scene.cut()
    waiting = scene.submit()
    before = scene.admin("SELECT count(*) FROM video_chunk WHERE state = 'RUNNING'")
    assert scene.chunks.help_wanted(BUILD)
    assert scene.chunks.claim_assist(HELPER, uuid.uuid4(), BUILD) is None
    assert scene.admin("SELECT count(*) FROM video_chunk WHERE state = 'RUNNING'") == before
    scene.hand(waiting, "run_after = now() + interval '9 s'")
    assert scene.assist() is not None
    scene.advance(9)
    assert scene.chunks.claim_assist(HELPER, uuid.uuid4(), BUILD) is None


def help_is_wanted_where_a_plan_is_about_to_be_written(scene: Scene) -> None:
    lease = scene.owned()
    assert scene.chunks.help_wanted(BUILD)
    scene.hand(lease.video_id, MARK)
    assert not scene.chunks.help_wanted(BUILD)
    scene.hand(lease.video_id, "cancel_requested_at = NULL, plan = 'first-plan'")
    assert scene.chunks.help_wanted(BUILD)
    scene.chunks.adopt(lease, make_plan("old-plan"), BUILD)
    scene.chunks.adopt(lease, make_plan(chunks=1), BUILD)
    taken(scene, lease)
    assert not scene.chunks.help_wanted(BUILD)
    scene.hand(lease.video_id, "plan = 'another-plan'")
    assert scene.chunks.help_wanted(BUILD)
    scene.hand(lease.video_id, "status = 'FAILED'")
    assert not scene.chunks.help_wanted(BUILD)


def f54_a_chunk_that_kills_assistants_is_left_to_its_owner(scene: Scene) -> None:
    """Whether their deaths were told at once or only seen when the lease ran out."""
    for told in (True, False):
        lease = scene.cut(make_plan(chunks=1))
        for _ in range(MAX_ASSISTANTS):
            chunk = helped(scene)
            if told:
                scene.chunks.abandon_chunk(chunk.token)
            else:
                scene.advance(61)
        assert scene.assist() is None
        own = taken(scene, lease)
        assert scene.admin.chunks(lease.video_id)[0]["assistant_losses"] == MAX_ASSISTANTS
        scene.advance(61)
        assert scene.assist() is None
        scene.chunks.done(own, OBJECTS)
        assert own.number == 0
        scene.hand(lease.video_id, "status = 'FAILED'")


def an_owner_that_dies_is_no_lost_assistant(scene: Scene) -> None:
    lease = scene.cut(make_plan(chunks=1))
    for _ in range(MAX_ASSISTANTS):
        scene.chunks.abandon_chunk(taken(scene, lease).token)
    taken(scene, lease)
    chunk = taken(scene, next_owner(scene, lease))
    assert scene.admin.chunks(lease.video_id)[0]["assistant_losses"] == 0
    scene.chunks.release_chunk(chunk)
    assert helped(scene).attempts == MAX_ASSISTANTS + 3


def an_owners_death_is_not_held_against_its_helpers(scene: Scene) -> None:
    lease = scene.cut(make_plan(chunks=1))
    for _ in range(MAX_ASSISTANTS - 1):
        scene.chunks.abandon_chunk(helped(scene).token)
    scene.chunks.abandon_chunk(taken(scene, lease).token)
    taken(scene, lease)
    scene.chunks.release_chunk(taken(scene, next_owner(scene, lease)))
    assert helped(scene).number == 0


def a_chunk_that_somebody_takes_is_not_waited_for(scene: Scene) -> None:
    lease = scene.cut()
    for call in (lambda: taken(scene, lease), lambda: helped(scene)):
        held = f"SELECT FROM video_chunk WHERE video_id = {lease.video_id} AND number = 0 FOR UPDATE"
        chunk = locked(scene.beside(held, call))
        assert chunk.number == 1
        scene.chunks.release_chunk(chunk)


def a_plan_of_another_release_is_not_helped(scene: Scene) -> None:
    scene.cut()
    scene.admin("UPDATE video_plan SET plan = jsonb_set(plan, '{revision}', '1')")
    assert scene.assist() is None


def what_fails_in_an_assistants_hands_counts_and_in_an_owners_does_not(scene: Scene) -> None:
    lease = scene.cut(make_plan(chunks=1))
    for give_back, losses in (
        (lambda: scene.chunks.release_chunk(taken(scene, lease), failed=True), 0),
        (lambda: scene.chunks.release_chunk(helped(scene)), 0),
        (lambda: scene.chunks.abandon_chunk(helped(scene).token, died=False), 0),
        (lambda: scene.chunks.release_chunk(helped(scene), failed=True), 1),
    ):
        give_back()
        assert scene.admin.chunks(lease.video_id)[0]["assistant_losses"] == losses
