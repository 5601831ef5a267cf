"""A job, its colleagues and a chunk table without any service: what `encode FILE` runs the pipeline on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.domain import events
from appliance.domain.errors import ApplianceError, Stopped
from appliance.domain.plan import Plan
from appliance.domain.receipt import Receipt
from appliance.domain.video import ChunkLease, DoneChunk, Lease
from appliance.encoder.workshop import Hands, holding

#: (percent, step, {"speed": …, "remaining_seconds": …})
Progress = Callable[[float, str, dict[str, float | None]], None]


class LocalTask:
    """Work that nobody can take away: no lease to lose, no drain, no parent. `ended`: set, it stops."""

    def __init__(self, ended: threading.Event | None = None) -> None:
        self.receipt = Receipt()
        self._ended = ended or threading.Event()

    def check(self) -> None:
        if self._ended.is_set():
            raise Stopped("The encode has ended.")

    def wait(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def may_begin(self, expected_seconds: float | None) -> None:
        del expected_seconds

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


class LocalJob(LocalTask):
    """The one that owns the video; only Ctrl-C ends it."""

    def __init__(self, lease: Lease, progress: Progress) -> None:
        super().__init__()
        self.lease = lease
        self._progress = progress

    def progress(self, percent: float, step: str, **fields: Any) -> None:
        shown = {name: fields.get(name) for name in ("speed", "remaining_seconds")}
        self._progress(percent, step, shown)


@dataclass
class ChunkTable:
    """The chunk rows of one plan, in memory; `adopted` hears of the plan."""

    adopted: Callable[[Lease, Plan], None] = lambda *_: None
    todo: list[int] = field(default_factory=list)
    finished: dict[int, DoneChunk] = field(default_factory=dict)
    plan: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known_plan(self, lease: Lease, recipe: str) -> None:
        """Nothing is gone on with."""
        del lease, recipe

    def adopt(self, lease: Lease, plan: Plan, build: str) -> None:
        del build
        self.plan = plan.fingerprint
        self.todo = [chunk.number for chunk in plan.chunks]
        self.adopted(lease, plan)

    def claim_chunk(self, lease: Lease, token: uuid.UUID) -> ChunkLease | None:
        with self._lock:
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


class Colleagues:
    """Threads that encode chunks beside the job's own, each in a directory of its own that has the source, too.

    `hands` of a task on a plan in a directory. A chunk that fails goes back, and its thread leaves, as does one that
    cannot begin: the job meets the same chunk, or the same full disk, and says why.
    """

    def __init__(self, rooms: list[Path], hands: Callable[[LocalTask, Plan, Path], Hands]) -> None:
        self._rooms, self._hands = rooms, hands
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tasks: list[LocalTask] = []

    def begin(self, lease: Lease, plan: Plan) -> None:
        self._threads = [
            threading.Thread(target=self._work, args=(lease, plan, room), name="colleague") for room in self._rooms
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """What they have in hand is given up."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _work(self, lease: Lease, plan: Plan, room: Path) -> None:
        task = LocalTask(self._ended)
        self._tasks.append(task)
        with suppress(ApplianceError, OSError):
            hands = self._hands(task, plan, room)
            chunks = hands.workshop.chunks
            while chunk := chunks.claim_chunk(lease, uuid.uuid4()):
                with holding(chunks, task, chunk):
                    sent = hands.deliver(chunk, hands.encode(chunk, lambda _: None)).bytes_out
                task.receipt = task.receipt.plus(chunks_encoded=1, bytes_out=sent)

    def receipt(self, job: Receipt) -> Receipt:
        """The job's, with what they did for it."""
        for own in (task.receipt for task in self._tasks):
            job = job.plus(
                cpu_seconds=own.cpu_seconds,
                peak_memory_bytes=own.peak_memory_bytes,
                rung_seconds=own.rung_seconds,
                chunks_encoded=own.chunks_encoded,
                bytes_out=own.bytes_out,
            )
        return job
