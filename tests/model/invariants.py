"""What must be true of every step, said without the guards that see to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from appliance.domain.video import TRANSITIONS, Status
from tests.model.state import (
    DONE,
    EXPIRED,
    NO_LEASE,
    PROCESSING,
    RUNNING,
    SILENT,
    TODO,
    UPLOADED,
    Chunk,
    World,
)
from tests.model.statements import MAX_DEATHS, MAX_LOSSES

Label = tuple[Any, ...]
Invariant = Callable[[World, Label, World], bool]

OWNERS = {"renew", "adopt", "complete", "fail", "release", "abandon", "redo", "claim_chunk"}


def broken(before: World, label: Label, after: World) -> str:
    """The sentence that this step makes untrue, empty when all hold."""
    if label[0] == "unanswered":
        label = label[1:]
    return next((name for name, holds in INVARIANTS.items() if not holds(before, label, after)), "")


def _published_once(before: World, label: Label, after: World) -> bool:
    return after.published <= 1


def _names_what_is_done(before: World, label: Label, after: World) -> bool:
    if after.published == before.published or label[0] != "complete":
        return True
    chunks = before.chunks[before.video.plan - 1] if before.video.plan else ()
    named = before.workers[label[1]].view
    return all(chunk.state == DONE for chunk in chunks) and named == tuple(chunk.token for chunk in chunks)


def _declared_edges(before: World, label: Label, after: World) -> bool:
    edge = Status(before.video.status), Status(after.video.status)
    return edge[0] == edge[1] or label[0] == "hand" or label[0] in TRANSITIONS.get(edge, ())


def _fenced(before: World, label: Label, after: World) -> bool:
    if label[0] not in OWNERS:
        return True
    held = before.video.status == PROCESSING and before.video.token == before.workers[label[1]].token
    return held or _rows(before) == _rows(after)


def _chunk_fenced(before: World, label: Label, after: World) -> bool:
    if label[0] == "redo":
        return all(old.state == DONE for old, _ in _changed(before, after))
    if label[0] not in {"renew_chunk", "done", "release_chunk", "abandon_chunk"}:
        return True
    worker, video = before.workers[label[1]], before.video
    if label[0] == "abandon_chunk":
        return all(old.state == RUNNING and old.token == worker.chunk for old, _ in _changed(before, after))
    told = label[0] == "renew_chunk" and after.workers[label[1]].chunk == worker.chunk
    if not told and _rows(before) == _rows(after):
        return True
    chunk = before.chunks[worker.plan - 1][worker.number]
    others = [old for old, _ in _changed(before, after) if old != chunk]
    if others or chunk.state != RUNNING or chunk.token != worker.chunk:
        return False
    if label[0] == "release_chunk":
        return True
    ended = video.plan != worker.plan or video.status not in {UPLOADED, PROCESSING}
    return not ended and not (video.cancel and chunk.assisted)


def _taken_free(before: World, label: Label, after: World) -> bool:
    if label[0] not in {"claim_chunk", "claim_assist"}:
        return True
    video, taken = before.video, list(_changed(before, after))
    if not taken or taken[0][0] not in before.chunks[video.plan - 1]:
        return not taken
    chunk = taken[0][0]
    if label[0] == "claim_assist":
        poison = chunk.deaths + (chunk.state == RUNNING and chunk.assisted) >= MAX_DEATHS
        if video.status != PROCESSING or video.cancel or poison:
            return False
    own = label[0] == "claim_chunk" and (chunk.token == label[2] or (not chunk.assisted and chunk.epoch < video.epoch))
    return chunk.state == TODO or (chunk.state == RUNNING and (own or (chunk.assisted and chunk.late == 1)))


def _kept(before: World, label: Label, after: World) -> bool:
    lost = any(
        old.state == DONE and (new.state, new.token) != (DONE, old.token) for old, new in _changed(before, after)
    )
    return not lost or label[0] == "redo"


def _one_epoch_a_claim(before: World, label: Label, after: World) -> bool:
    claimed = len(after.attempts) - len(before.attempts)
    return after.video.epoch == before.video.epoch + claimed


def _closed_once(before: World, label: Label, after: World) -> bool:
    return all(not was or was == now for was, now in zip(before.attempts, after.attempts, strict=False))


def _open_with_its_lease(before: World, label: Label, after: World) -> bool:
    running = [epoch for epoch, outcome in enumerate(after.attempts, 1) if not outcome]
    return running == ([after.video.token] if after.video.token else [])


def _dead_when_reclaimed(before: World, label: Label, after: World) -> bool:
    video = before.video
    if label[0] not in {"reclaim_expired", "reclaim_silent"} or _rows(before) == _rows(after):
        return True
    if label[0] == "reclaim_expired":
        return video.status == PROCESSING and video.age == EXPIRED
    return video.status == PROCESSING and video.age >= SILENT and video.token == before.judged


def _seen_in_the_row(before: World, label: Label, after: World) -> bool:
    if label[0] != "ask_again" or after.workers[label[1]].kind != "owner":
        return True
    return after.video.status == PROCESSING and after.video.token == after.workers[label[1]].token


def _cancelled_for_good(before: World, label: Label, after: World) -> bool:
    ended = before.video.status == PROCESSING and after.video.status == UPLOADED
    return not (before.video.cancel and ended and label[0] != "hand")


def _mark_for_the_owner(before: World, label: Label, after: World) -> bool:
    if label[0] in {"claim", "claim_next"} and after.video.epoch > before.video.epoch:
        return not after.video.cancel
    return not after.video.cancel or bool(after.video.token)


def _poison_ends(before: World, label: Label, after: World) -> bool:
    return after.video.losses < MAX_LOSSES


def _in_its_time(before: World, label: Label, after: World) -> bool:
    video = before.video
    if label[0] == "due_rings":
        return video.status == UPLOADED and video.due and video.ring
    claimed = label[0] in {"claim", "claim_next"} and after.video.epoch > video.epoch
    return not claimed or video.due


def _checks(before: World, label: Label, after: World) -> bool:
    return all(
        (chunk.state == TODO) == (chunk.token == 0) and (chunk.state == RUNNING) == (chunk.late != NO_LEASE)
        for chunk in chain(*after.chunks)
    )


def _rows(world: World) -> tuple[Any, ...]:
    return world.video, world.attempts, world.chunks


def _changed(before: World, after: World) -> Iterator[tuple[Chunk, Chunk]]:
    pairs = zip(chain(*before.chunks), chain(*after.chunks), strict=True)
    return ((old, new) for old, new in pairs if old != new)


INVARIANTS: dict[str, Invariant] = {
    "a submission is published at most once": _published_once,
    "a READY names the DONE chunks of its own plan": _names_what_is_done,
    "a status changes only along a declared edge": _declared_edges,
    "a zombie changes no row": _fenced,
    "a zombie changes no chunk": _chunk_fenced,
    "a chunk is taken only when nobody may still encode it": _taken_free,
    "finished work is thrown away only by its owner": _kept,
    "every claim raises the epoch by one, and nothing else does": _one_epoch_a_claim,
    "an attempt is closed exactly once": _closed_once,
    "an attempt is open exactly as long as its lease": _open_with_its_lease,
    "only a dead owner is reclaimed": _dead_when_reclaimed,
    "nobody encodes without having seen its token in the row": _seen_in_the_row,
    "a cancelled video is not tried again": _cancelled_for_good,
    "a cancel mark meets only the run it was meant for": _mark_for_the_owner,
    "a video that kills its owners stops": _poison_ends,
    "nothing is claimed or rung before its time": _in_its_time,
    "the rows satisfy the tables' CHECKs": _checks,
}
#: What is true of the whole: from every state, without another fault, the end can be reached.
LIVENESS = "no row is lost"
