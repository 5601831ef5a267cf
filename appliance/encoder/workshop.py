"""One chunk in somebody's hands: encoded, delivered, DONE. The same for an owner and for an assistant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from appliance.adapters.ffmpeg.tools import Tools
from appliance.domain.errors import ApplianceError, LeaseLost, SourceRejected, Stopped, Unavailable
from appliance.domain.events import ChunkEnded
from appliance.domain.layout import chunk_prefix
from appliance.domain.plan import Plan
from appliance.domain.video import ChunkLease
from appliance.encoder.chunk import Encoded, Rules, deliver, encode
from appliance.encoder.patience import STORAGE_SECONDS, insist
from appliance.encoder.ports import ChunkStore, Storage, Task


@dataclass(frozen=True)
class Workshop:
    """What the chunks of every video are made with."""

    tools: Tools
    rules: Rules
    storage: Storage
    chunks: ChunkStore


@dataclass(frozen=True)
class Hands:
    """Of one task on one plan. `media` is the plan's prefix in storage, `directory` holds the source.

    `outcome` is what the supervisor counts a finished chunk as.
    """

    workshop: Workshop
    task: Task
    plan: Plan
    media: str
    directory: Path
    outcome: str = "encoded"

    def encode(self, lease: ChunkLease, on_seconds: Callable[[float], None]) -> Encoded:
        """`on_seconds` hears the media seconds that are out. What it cost and warned of is on the task's receipt."""
        encoded = encode(
            self.workshop.tools,
            self.workshop.rules,
            self.plan,
            self.plan.chunk(lease.number),
            directory=self.directory,
            check=self.task.check,
            on_seconds=on_seconds,
        )
        self.task.receipt = self.task.receipt.plus_chunk(encoded.objects("").cost)
        for sentence in encoded.warnings:
            self.task.warn(sentence)
        return encoded

    def deliver(self, lease: ChunkLease, encoded: Encoded, *, bytes_in: int = 0) -> ChunkEnded:
        """Upload, then DONE: never the other way round. `bytes_in` is what was fetched for this chunk alone."""
        prefix = chunk_prefix(self.media, lease.number, lease.token)
        objects = encoded.objects(prefix)
        objects = replace(objects, cost=replace(objects.cost, bytes_in=bytes_in))
        send = partial(deliver, encoded, self.workshop.storage, prefix, self.task.check)
        sent = insist(self.task, send, seconds=STORAGE_SECONDS)
        insist(self.task, lambda: self.workshop.chunks.done(lease, objects.to_json()))
        self.task.let_go(lease)  # held until then: a database may be away for longer than the chunk's lease (F24)
        cost = objects.cost
        return ChunkEnded(lease.token, self.outcome, cost.wall_seconds, cost.media_seconds, sent)


@contextmanager
def holding(chunks: ChunkStore, task: Task, lease: ChunkLease) -> Iterator[None]:
    """The chunk is renewed from here on. One that is not finished is given back at once, unless it is lost."""
    task.hold(lease)
    try:
        yield
    except BaseException as error:
        task.let_go(lease)
        if not isinstance(error, LeaseLost):
            with suppress(ApplianceError):  # the chunk's lease expires by itself
                chunks.release_chunk(lease, failed=not _excused(error))
        task.announce(ChunkEnded(lease.token, "lost" if isinstance(error, LeaseLost) else "released"))
        raise


def _excused(error: BaseException) -> bool:
    """Whether the chunk itself is surely not why: the end of a process, a dependency, another source."""
    code = error.code if isinstance(error, ApplianceError) else ""
    return isinstance(error, Stopped | Unavailable | SourceRejected) or code in ("source_changed", "disk_full")
