"""The heartbeat thread: renews what the job holds, or says that it is lost.

PostgreSQL first, because the lease is there; Redis second, because it only lets others see us. The thread's adapters
are its own: a job that is busy with the main thread's connection must not delay a renewal.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from appliance.adapters.postgres.chunks import Chunks
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.redis import Telemetry
from appliance.domain.errors import LeaseLost, Transient, Unavailable
from appliance.domain.video import ChunkLease
from appliance.encoder.job import Job, Task
from appliance.encoder.outage import Outage
from appliance.encoder.parent import Parent

#: When a chunk is asked for again that could not be renewed: it may just have been marked DONE by its own encoder.
DOUBT_SECONDS = 1.0


@dataclass(frozen=True)
class Rhythm:
    """`silent_seconds` is longer than the longest turn with dead servers; `grace_seconds` is what a waking VM gets."""

    renew_seconds: float = 20.0
    silent_seconds: float = 90.0
    grace_seconds: float = 10.0


Turn = Callable[[], float]
Lost = Callable[[str], None]
End = Callable[[], None]


class Heartbeat:
    """One per process; beats for one job, or one assistant's task, at a time."""

    def __init__(self, leases: Leases, chunks: Chunks, telemetry: Telemetry, *, rhythm: Rhythm, parent: Parent) -> None:
        self._leases = leases
        self._chunks = chunks
        self._telemetry = telemetry
        self._rhythm = rhythm
        self._parent = parent
        self._outage = Outage("postgres", longest_wait_seconds=rhythm.renew_seconds)
        self._doubted: set[ChunkLease] = set()
        #: A thread did not end when told: its connection cannot be used again, so the process must go.
        self.stuck = False

    @contextmanager
    def beating(self, task: Task) -> Iterator[None]:
        """While inside, the task's leases are renewed and `task.check` raises when that stops (F17).

        An assistant has chunks and no video, and nothing of it is in Redis.
        """

        def lost(sentence: str) -> None:
            if isinstance(task, Job) and not task.settling:
                task.lose(sentence)

        def end() -> None:
            if isinstance(task, Job):
                self._telemetry.end(task.lease)

        pulse = Pulse(partial(self._turn, task), lost, end, self._rhythm)
        task.watch = pulse.check
        pulse.start()
        try:
            yield
        finally:
            self.stuck = not pulse.stop()

    def _turn(self, task: Task) -> float:
        """Renew, then beat; returns the seconds until the next turn. Raises LeaseLost."""
        pause = self._rhythm.renew_seconds
        try:
            if isinstance(task, Job):
                self._renew_video(task)
            if self._renew_chunks(task):
                pause = min(pause, DOUBT_SECONDS)
        except Unavailable as error:
            # Late is fine while nobody reclaimed; the job goes on (F24).
            pause = min(pause, self._outage.failed(error))
        else:
            self._outage.answered()
        if isinstance(task, Job):
            self._telemetry.beat(task.lease)
        return pause

    def _renew_video(self, job: Job) -> None:
        if self._leases.renew(job.lease):
            job.cancel()
        self._parent.count("lease_renewals")

    def _renew_chunks(self, task: Task) -> bool:
        """Whether a chunk is in doubt. One that is held and not ours twice in a row is lost."""
        doubted: set[ChunkLease] = set()
        for chunk in task.held():
            try:
                self._chunks.renew_chunk(chunk)
            except LeaseLost as error:
                doubted.add(chunk)
                if chunk in self._doubted:
                    task.lose_chunk(chunk, error.sentence)
        self._doubted = doubted
        return bool(doubted)


class Pulse:
    """The thread of one job or task, and the age of its last turn."""

    def __init__(self, turn: Turn, lost: Lost, end: End, rhythm: Rhythm) -> None:
        self._turn = turn
        self._lost = lost
        self._end = end
        self._rhythm = rhythm
        self._stop = threading.Event()
        self._turned_at = time.monotonic()
        self._suspected_at: float | None = None
        # The context carries what every log line of the job is bound to.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """End the thread after its turn; False when it hangs in there."""
        self._stop.set()
        self._thread.join(self._rhythm.silent_seconds)
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raises Transient when the thread died or hangs.

        After a pause of the whole process (SIGSTOP, a moved VM) both threads wake together: silence must last.
        """
        if not self._thread.is_alive():
            raise Transient("The heartbeat stopped by itself, so the encode was stopped.", code="internal_error")
        now = time.monotonic()
        if now - self._turned_at <= self._rhythm.silent_seconds:
            self._suspected_at = None
        elif self._suspected_at is None:
            self._suspected_at = now
        elif now - self._suspected_at > self._rhythm.grace_seconds:
            raise Transient("The heartbeat hangs, so the encode was stopped.", code="internal_error")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                pause = self._turn()
                self._turned_at = time.monotonic()
                self._stop.wait(pause)
        except LeaseLost as error:
            self._lost(error.sentence)
        except Exception:  # noqa: BLE001 - the job's own thread finds this one dead
            structlog.get_logger().exception("HEARTBEAT_DIED")
        finally:
            self._end()
