"""What may happen next: workers, reconcile, the platform, time, and faults, each at any moment.

A move is (label, cost, world after). The label's first word is the statement, where it is one. A fault costs 1 of the
world's budget: a crash, a pause past a lease, a lost answer, a lost or doubled message, a flushed Redis, a failing
encode, a drain, a cancel, a re-submit, another source, a status that somebody writes by hand. What mends costs
nothing: a lease nobody renews ends, a row becomes due, the sweep rings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model import statements as sql
from tests.model.state import (
    DONE,
    EXPIRED,
    FAILED,
    FRESH,
    IDLE,
    PROCESSING,
    READY,
    RUNNING,
    UPLOADED,
    Worker,
    World,
)
from tests.model.statements import Guards

Move = tuple[tuple[Any, ...], int, World]

#: Whose lease is not renewed any more without anybody's fault.
GONE = {"idle", "called", "dead"}


def moves(world: World, has: Guards) -> Iterator[Move]:
    """Everything that may happen next, as far as the budget goes."""
    for move in _all(world, has):
        if move[1] == 0:
            yield move
        elif world.budget:
            yield move[0], 1, move[2]._replace(budget=world.budget - 1)


def _all(world: World, has: Guards) -> Iterator[Move]:
    for index, worker in enumerate(world.workers):
        if worker not in world.workers[:index]:  # its twin does the same
            yield from STEPS[worker.kind](world, has, index, worker)
    yield from _reconcile(world, has)
    yield from _platform(world, has)
    yield from _time(world)


def _be(world: World, index: int, worker: Worker) -> World:
    return world._replace(workers=(*world.workers[:index], worker, *world.workers[index + 1 :]))


def _answered(label: tuple[Any, ...], world: World, after: World, index: int, worker: Worker) -> Iterator[Move]:
    """The write, and the same with its answer lost: then it will be asked again."""
    yield label, 0, _be(after, index, worker)
    if after != world:
        yield ("unanswered", *label), 1, after


# ---- workers


def _idle(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    if world.queue:
        yield ("receive", index), 0, _be(world, index, Worker("called"))._replace(queue=world.queue - 1)
    after, taken = sql.claim(world, has, "claim_next")
    if taken:
        yield ("claim_next", index), 0, _be(after, index, Worker("owner", after.video.token))
    token = world.serial + 1
    after, plan, number = sql.claim_assist(world, has, token)
    if plan:
        helper = Worker("helper", plan=plan, number=number, chunk=token)
        yield ("claim_assist", index, token), 0, _be(after._replace(serial=token), index, helper)


def _called(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    after, taken = sql.claim(world, has)
    yield ("claim", index), 0, _be(after, index, Worker("owner", after.video.token) if taken else IDLE)
    if taken:
        yield ("unanswered", "claim", index), 1, _be(after, index, Worker("asking", after.video.token))
    yield ("crash", index), 1, _be(world, index, IDLE)


def _asking(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    owner = sql.mine(world, has, worker.token)
    yield ("ask_again", index), 0, _be(world, index, Worker("owner", worker.token) if owner else IDLE)
    yield ("crash", index), 1, _be(world, index, worker._replace(kind="dead"))


def _owner(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    token = worker.token
    if worker.told:
        after, _ = sql.fail(world, has, token, final=True, cancelled=True)
        yield from _answered(("fail", index, "cancelled"), world, after, index, IDLE)
    else:
        yield from _work(world, has, index, worker)
    after, kept = sql.renew(world, has, token)
    beaten = after._replace(beat=token) if kept else after
    renewed = _be(beaten, index, worker._replace(told=world.video.cancel) if kept else IDLE)
    if renewed != world:
        yield ("renew", index), 0, renewed
    final = world.video.failures + 1 >= sql.MAX_ATTEMPTS
    after, _ = sql.fail(world, has, token, final=final)
    yield ("fail", index, "final" if final else "retry"), 1, _be(after, index, IDLE)
    after, _ = sql.release(world, has, token)
    yield ("release", index), 1, _be(after, index, IDLE)
    yield ("crash", index), 1, _be(world, index, worker._replace(kind="dead", view=(), told=False, redoing=False))


def _work(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    token, plan = worker.token, worker.plan
    if not plan:
        after, kept = sql.adopt(world, has, token, world.source)
        adopted = worker._replace(plan=world.source) if kept else IDLE
        yield ("adopt", index, world.source), 0, _be(after, index, adopted)
    elif worker.redoing:
        yield from _redo(world, has, index, worker, 0)
    elif worker.view:
        after, _ = sql.complete(world, has, token)
        yield from _answered(("complete", index), world, after, index, IDLE)
        yield from _redo(world, has, index, worker, 1)
    elif worker.number >= 0:
        yield from _encode(world, has, index, worker, worker._replace(number=-1, chunk=0))
    else:
        chunk = worker.chunk or world.serial + 1  # asked again under the same token
        after, _, number = sql.claim_chunk(world, has, token, chunk)
        if number >= 0 or worker.chunk:
            after = after._replace(serial=max(chunk, world.serial))
            taken = worker._replace(number=number, chunk=chunk if number >= 0 else 0)
            yield ("claim_chunk", index, chunk), 0, _be(after, index, taken)
            yield ("unanswered", "claim_chunk", index, chunk), 1, _be(after, index, worker._replace(chunk=chunk))
        view = tuple(found.token for found in world.chunks[plan - 1] if found.state == DONE)
        if len(view) == len(world.chunks[plan - 1]) and not worker.chunk:
            yield ("assemble", index), 0, _be(world, index, worker._replace(view=view))


def _redo(world: World, has: Guards, index: int, worker: Worker, cost: int) -> Iterator[Move]:
    """The proof of chunk 0 failed. Who was not answered asks again, and publishes nothing before."""
    after, kept = sql.redo(world, has, worker.token, 0)
    next_step = worker._replace(view=(), redoing=False) if kept else IDLE
    yield ("redo", index, 0), cost, _be(after, index, next_step)
    if cost and kept:
        yield ("unanswered", "redo", index, 0), 1, _be(after, index, worker._replace(view=(), redoing=True))


def _helper(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    yield from _encode(world, has, index, worker, IDLE)
    yield ("crash", index), 1, _be(world, index, worker._replace(kind="dead"))


def _encode(world: World, has: Guards, index: int, worker: Worker, free: Worker) -> Iterator[Move]:
    own = (worker.plan, worker.number, worker.chunk)
    after, _ = sql.done(world, has, *own)
    yield from _answered(("done", index), world, after, index, free)
    after, kept = sql.renew_chunk(world, has, *own)
    yield ("renew_chunk", index), 0, _be(after, index, worker if kept else free)
    after, _ = sql.release_chunk(world, has, *own)
    yield ("release_chunk", index), 1, _be(after, index, free)


def _dead(world: World, has: Guards, index: int, worker: Worker) -> Iterator[Move]:
    """Its supervisor lives and gives back what it held; or the whole host is gone."""
    yield ("vanish", index), 0, _be(world, index, IDLE)
    if worker.token:
        after, _ = sql.abandon(world, has, worker.token)
        left = worker._replace(token=0, plan=worker.plan) if worker.chunk else IDLE
        yield ("abandon", index), 0, _be(after, index, left)
    elif worker.chunk:
        after, _ = sql.abandon_chunk(world, has, worker.chunk)
        yield ("abandon_chunk", index), 0, _be(after, index, IDLE)


STEPS = {"idle": _idle, "called": _called, "asking": _asking, "owner": _owner, "helper": _helper, "dead": _dead}


# ---- everybody else


def _reconcile(world: World, has: Guards) -> Iterator[Move]:
    video = world.video
    after, taken = sql.reclaim_expired(world, has)
    if taken:
        yield ("reclaim_expired",), 0, after
    if video.status == PROCESSING and world.beat != video.token != world.judged:
        yield ("judge",), 0, world._replace(judged=video.token)
    if world.judged:
        after, _ = sql.reclaim_silent(world, has, world.judged)
        yield ("reclaim_silent",), 0, after._replace(judged=0)
    after, rung = sql.due_rings(world, has)
    if rung:
        yield ("due_rings",), 0, after._replace(queue=min(world.room, world.queue + 1))
    if world.queue:
        yield ("lose a message",), 1, world._replace(queue=world.queue - 1)
        if world.queue < world.room:
            yield ("double a message",), 1, world._replace(queue=world.queue + 1)
    if world.beat:
        yield ("flush",), 1, world._replace(beat=0)


def _platform(world: World, has: Guards) -> Iterator[Move]:
    after, changed = sql.cancel(world, has)
    if changed and after != world:
        yield ("cancel",), 1, after
    after, changed = sql.resubmit(world, has)
    if changed:
        yield ("resubmit",), 1, after
    if world.video.status == PROCESSING:
        for status in (UPLOADED, FAILED):
            yield ("hand", status), 1, world._replace(video=world.video._replace(status=status))
    if world.video.status == UPLOADED and world.video.due:
        yield ("hand", "later"), 1, world._replace(video=world.video._replace(due=False))
    if world.source < len(world.chunks):
        yield ("another source",), 1, world._replace(source=world.source + 1)


def _time(world: World) -> Iterator[Move]:
    video = world.video
    if video.token and video.age < EXPIRED:
        pause = video.age == FRESH and _lives(world, video.token)
        yield ("age", video.age + 1), int(pause), world._replace(video=video._replace(age=video.age + 1))
    if world.beat and (world.beat != video.token or video.age > FRESH):
        yield ("beat ends",), 0, world._replace(beat=0)
    if video.status == UPLOADED and not video.due:
        yield ("due",), 0, world._replace(video=video._replace(due=True, ring=True))
    elif video.status == UPLOADED and not video.ring:
        yield ("ring due",), 0, world._replace(video=video._replace(ring=True))
    for plan, chunks in enumerate(world.chunks, 1):
        for number, chunk in enumerate(chunks):
            if chunk.state == RUNNING and not chunk.late:
                held = any(w.chunk == chunk.token and w.kind not in GONE for w in world.workers)
                yield ("late", plan, number), int(held), sql.put(world, plan, number, chunk._replace(late=1))


def _lives(world: World, token: int) -> bool:
    return any(worker.token == token and worker.kind not in GONE for worker in world.workers)


def over(world: World) -> bool:
    """A stream, or a sentence why there is none."""
    return world.video.status in {READY, FAILED}
