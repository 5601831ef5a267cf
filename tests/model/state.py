"""The world of one video, small enough to see every state of it: rows, messages, heartbeat, workers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeVar

UPLOADED, PROCESSING, READY, FAILED = "UPLOADED", "PROCESSING", "READY", "FAILED"
TODO, RUNNING, DONE = "TODO", "RUNNING", "DONE"
#: How long ago a lease was renewed: just now; longer than a heartbeat's life; longer than the lease.
FRESH, SILENT, EXPIRED = 0, 1, 2
#: A chunk that nobody holds has no lease that could be over.
NO_LEASE = -1

Part = TypeVar("Part")


class Video(NamedTuple):
    """The row. A token is the epoch of the claim that made it: each claim makes one, and no other names it. 0: none."""

    status: str = UPLOADED
    token: int = 0
    epoch: int = 0
    age: int = FRESH
    cancel: bool = False
    failures: int = 0
    losses: int = 0
    due: bool = True
    ring: bool = True
    plan: int = 0


class Chunk(NamedTuple):
    """`late`: 0 with a lease, 1 when it is over. `epoch`: of the owner for whom it was begun."""

    state: str = TODO
    token: int = 0
    epoch: int = 0
    late: int = NO_LEASE
    assisted: bool = False
    deaths: int = 0


class Worker(NamedTuple):
    """`kind`: idle, called (it deleted a message), asking (its claim was not answered), owner, helper, dead.

    `view` are the tokens of the chunks that its playlists name; `told` that it read the cancel mark, `redoing`
    that its redo was not answered.
    """

    kind: str = "idle"
    token: int = 0
    plan: int = 0
    number: int = -1
    chunk: int = 0
    view: tuple[int, ...] = ()
    told: bool = False
    redoing: bool = False


IDLE = Worker()


class World(NamedTuple):
    """`attempts[e - 1]` is how the attempt of epoch e ended, empty while it is open; `chunks[p - 1]` those of plan p.

    `judged` is the owner whom reconcile found silent, `beat` the token in the heartbeat, `queue` the messages,
    `room` how many the queue holds (0: there is none), `source` the version of the source, `serial` the last chunk
    token, `published` how often this submission was, and `budget` how many faults may still happen.
    """

    video: Video
    attempts: tuple[str, ...]
    chunks: tuple[tuple[Chunk, ...], ...]
    workers: tuple[Worker, ...]
    judged: int = 0
    beat: int = 0
    queue: int = 0
    room: int = 2
    source: int = 1
    serial: int = 0
    published: int = 0
    budget: int = 0


def first(*, workers: int = 2, chunks: int = 2, plans: int = 1, room: int = 1, budget: int = 1) -> World:
    """The platform has written the row and not rung yet."""
    return World(Video(), (), ((Chunk(),) * chunks,) * plans, (IDLE,) * workers, room=room, budget=budget)


def canonical(world: World) -> World:
    """Of all worlds that differ only in which worker is which and in what tokens are called, one.

    Tokens are compared, and epochs are ordered: so their ranks say as much, and what nobody remembers is forgotten.
    """
    video = world.video
    used = sorted(set(_epochs(world)) - {0})
    rank = dict(zip(used, range(1, len(used) + 1), strict=True))
    rank[0] = 0
    tokens = sorted(set(_chunk_tokens(world)) - {0})
    name = dict(zip(tokens, range(1, len(tokens) + 1), strict=True))
    name[0] = 0
    workers = [
        worker._replace(
            token=rank[worker.token], chunk=name[worker.chunk], view=tuple(name[token] for token in worker.view)
        )
        for worker in world.workers
    ]
    return world._replace(
        video=_same(video._replace(token=rank[video.token], epoch=rank[video.epoch])),
        attempts=_same(tuple(world.attempts[epoch - 1] for epoch in used)),
        chunks=_same(
            tuple(
                tuple(chunk._replace(token=name[chunk.token], epoch=rank[chunk.epoch]) for chunk in plan)
                for plan in world.chunks
            )
        ),
        workers=_same(tuple(sorted(workers))),
        judged=rank[world.judged],
        beat=rank[world.beat],
        serial=len(tokens),
    )


@lru_cache(maxsize=1 << 18)
def _same(part: Part) -> Part:
    """One object for equal ones: millions of worlds share their parts."""
    return part


def _epochs(world: World) -> Iterator[int]:
    yield from (world.video.token, world.video.epoch, world.judged, world.beat)
    yield from (chunk.epoch for plan in world.chunks for chunk in plan)
    yield from (worker.token for worker in world.workers)


def _chunk_tokens(world: World) -> Iterator[int]:
    yield from (chunk.token for plan in world.chunks for chunk in plan)
    for worker in world.workers:
        yield worker.chunk
        yield from worker.view
