"""A job and a chunk table without any service: what `encode FILE` runs the pipeline on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appliance.domain import events
from appliance.domain.plan import Plan
from appliance.domain.receipt import Receipt
from appliance.domain.video import ChunkLease, DoneChunk, Lease

#: (percent, step, {"speed": …, "remaining_seconds": …})
Progress = Callable[[float, str, dict[str, float | None]], None]


class LocalJob:
    """A job that nobody can take away: no lease to lose, no drain, no parent."""

    def __init__(self, lease: Lease, progress: Progress) -> None:
        self.lease = lease
        self.receipt = Receipt()
        self._progress = progress
        self._pause = threading.Event()

    def check(self) -> None:
        """Nothing can end it but Ctrl-C."""

    def wait(self, seconds: float) -> None:
        self._pause.wait(seconds)

    def may_begin(self, expected_seconds: float | None) -> None:
        del expected_seconds

    def progress(self, percent: float, step: str, **fields: Any) -> None:
        shown = {name: fields.get(name) for name in ("speed", "remaining_seconds")}
        self._progress(percent, step, shown)

    def report_due(self, step: str) -> bool:
        del step
        return True

    def warn(self, sentence: str) -> None:
        self.receipt = self.receipt.warned(sentence)

    def announce(self, event: events.Event) -> None:
        del event

    def hold(self, chunk: ChunkLease) -> None:
        del chunk

    def let_go(self, chunk: ChunkLease) -> None:
        del chunk


@dataclass
class ChunkTable:
    """The chunk rows of one plan, in memory."""

    todo: list[int] = field(default_factory=list)
    finished: dict[int, DoneChunk] = field(default_factory=dict)
    plan: str = ""

    def adopt(self, lease: Lease, plan: Plan, build: str) -> None:
        del lease, build
        self.plan = plan.fingerprint
        self.todo = [chunk.number for chunk in plan.chunks]

    def claim_chunk(self, lease: Lease, token: uuid.UUID) -> ChunkLease | None:
        return ChunkLease(lease.video_id, self.plan, self.todo.pop(0), token) if self.todo else None

    def done(self, chunk: ChunkLease, objects: dict[str, Any]) -> None:
        self.finished[chunk.number] = DoneChunk(chunk.number, chunk.token, 1, objects)

    def release_chunk(self, chunk: ChunkLease, *, failed: bool = False) -> None:
        del failed
        self.todo.insert(0, chunk.number)

    def redo(self, lease: Lease, number: int) -> None:
        del lease
        self.finished.pop(number, None)
        self.todo = sorted({*self.todo, number})

    def done_chunks(self, lease: Lease, plan_fingerprint: str, *, whole: bool = True) -> list[DoneChunk]:
        del lease, plan_fingerprint, whole
        return list(self.finished.values())
