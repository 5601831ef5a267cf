"""What a piece of work sees of its process: whether to go on, and whom to tell. A Job owns a video, a Task nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from appliance.adapters.redis import Telemetry
from appliance.domain.errors import Cancelled, ChunkLost, Draining, LeaseLost
from appliance.domain.events import Event, Progress
from appliance.domain.receipt import Receipt
from appliance.domain.video import ChunkLease, Lease
from appliance.encoder.drain import Drain
from appliance.encoder.parent import Parent

#: Progress reports are this far apart at least, except when the step changes.
REPORT_SECONDS = 1.0


class Task:
    """Work on chunks, of one's own video or of somebody else's: an assistant needs no more.

    `check`, `hold` and `let_go` may be called from any thread; `receipt` and the reports belong to the task's own.
    """

    def __init__(self, *, drain: Drain, parent: Parent) -> None:
        self.receipt = Receipt()
        #: Raises when whoever renews the leases cannot be trusted any more; set by the heartbeat.
        self.watch: Callable[[], None] = lambda: None
        self._drain = drain
        self._parent = parent
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._held: dict[ChunkLease, str] = {}
        self._reported = ("", float("-inf"))

    def check(self) -> None:
        """Cheap, and called often. Raises ChunkLost, Draining (release now) or Transient."""
        self._parent.alive()
        if self._drain.over:
            raise Draining("This encoder must leave at once.")
        with self._lock:
            lost = next(filter(None, self._held.values()), "")
        if lost:
            raise ChunkLost(lost)
        self.watch()

    def wait(self, seconds: float) -> None:
        """Instead of a sleep: shorter when a signal arrives. For the task's own thread."""
        self._drain.wait(seconds)

    def may_begin(self, expected_seconds: float | None) -> None:
        """Raises Draining when this process is leaving and a step of that length (None: unknown) would not fit."""
        self.check()
        if self._drain.asked and (expected_seconds is None or expected_seconds > self._drain.left_seconds):
            raise Draining("This encoder is leaving, and the next step would not end in time.")

    def report_due(self, step: str) -> bool:
        """Whether people are to hear of this step again already; then that is noted."""
        last_step, last_at = self._reported
        now = time.monotonic()
        if step == last_step and now - last_at < REPORT_SECONDS:
            return False
        self._reported = (step, now)
        return True

    def warn(self, sentence: str) -> None:
        """Something survivable: for the log and the receipt."""
        self._log.warning("JOB_WARNING", warning=sentence)
        self.receipt = self.receipt.warned(sentence)

    def announce(self, event: Event) -> None:
        self._parent.announce(event)

    def hold(self, chunk: ChunkLease) -> None:
        """From now on the heartbeat renews this chunk's lease as well."""
        with self._lock:
            self._held.setdefault(chunk, "")

    def let_go(self, chunk: ChunkLease) -> None:
        """The chunk is done, released or lost; `check` forgets it."""
        with self._lock:
            self._held.pop(chunk, None)

    def held(self) -> list[ChunkLease]:
        """The chunks to renew: held and not lost."""
        with self._lock:
            return [chunk for chunk, lost in self._held.items() if not lost]

    def lose_chunk(self, chunk: ChunkLease, sentence: str) -> None:
        with self._lock:
            if chunk in self._held:
                self._held[chunk] = sentence
        self._log.warning("CHUNK_LOST", chunk=chunk.number, error=sentence)


class Job(Task):
    """Made for one lease, and told by the heartbeat thread when that lease is in danger."""

    def __init__(self, lease: Lease, *, drain: Drain, parent: Parent, telemetry: Telemetry) -> None:
        super().__init__(drain=drain, parent=parent)
        self.lease = lease
        #: True once the job's outcome is being written: a renewal without effect is then no news.
        self.settling = False
        self._telemetry = telemetry
        self._lost = ""
        self._cancelled = False
        self._began_at = self._entered_at = time.monotonic()
        #: Where the job is: a step of `events.STEPS`, empty before the first.
        self.step = ""

    def check(self) -> None:
        """As a task's; also raises LeaseLost and Cancelled."""
        if self._lost:
            raise LeaseLost(self._lost)
        if self._cancelled:
            raise Cancelled("The encode was cancelled on request.")
        super().check()

    def progress(
        self,
        percent: float,
        step: str,
        *,
        step_index: int,
        step_total: int,
        step_percent: float,
        speed: float | None = None,
        fps: float | None = None,
        remaining_seconds: float | None = None,
        chunk: int | None = None,
    ) -> None:
        """Percentages 0–100. Goes to Redis and to the supervisor, never to the database, and not too often."""
        self._enter(step)
        if not self.report_due(step):
            return
        fields: dict[str, Any] = {
            "percent": round(percent, 1),
            "step": step,
            "step_index": step_index,
            "step_total": step_total,
            "step_name": step,
            "step_percent": round(step_percent, 1),
            "remaining_seconds": remaining_seconds,
            "speed": speed,
            "fps": fps,
        }
        self._telemetry.progress(self.lease, fields)
        self._parent.saw("redis", answers=self._telemetry.answers)
        self.announce(Progress(self.lease.video_id, percent, step, speed, remaining_seconds, chunk))

    def lose(self, sentence: str) -> None:
        """The lease is somebody else's. Said loudly, once, by whoever finds out first."""
        with self._lock:
            first, self._lost = not self._lost, self._lost or sentence
        if first:
            self._log.error("LEASE_LOST", error=sentence)
            self._parent.count("stale_writes_rejected")

    def cancel(self) -> None:
        """Somebody asked for the end; the owner stops at its next check."""
        self._cancelled = True

    def bill(self) -> dict[str, Any]:
        """The receipt as it stands, with the wall time from the claim to now, and how it was spent."""
        self._enter(self.step)
        return replace(self.receipt, wall_seconds=round(time.monotonic() - self._began_at, 3)).to_json()

    def _enter(self, step: str) -> None:
        """The time since the last look belongs to the step that was on."""
        now = time.monotonic()
        if self.step:
            spent = self.receipt.step_seconds
            seconds = round(spent.get(self.step, 0.0) + now - self._entered_at, 3)
            self.receipt = replace(self.receipt, step_seconds={**spent, self.step: seconds})
        self.step, self._entered_at = step, now
