"""The pool: a row of slots, each with at most one encoder process in it.

    STOPPED ── spawned ─▶ STARTING ── booted ─▶ IDLE ── claimed ─▶ BUSY (also with a chunk of somebody else's video)
       ▲                      │                  │ ◀── settled ──    │
       │                      └───── told to drain ──────────────────┤
       ├───────── died ────────────────────────────────────── DRAINING
       └── due ── BACKOFF ◀── died ── STARTING, IDLE, BUSY

`EDGES` is that picture as data. The pool decides and signals; it holds no thread, and its clock is an argument.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from appliance.config import Pool as Settings
from appliance.domain.events import (
    EXIT_CONFIG,
    EXIT_DONE,
    Assisting,
    Booted,
    ChunkEnded,
    Claimed,
    Counted,
    Event,
    Progress,
    Settled,
)
from appliance.supervisor.pipe import Pipe
from appliance.supervisor.tokens import Tokens, after, running, start_time

#: After the second SIGTERM a child has this long to release what it holds; then it is killed.
RELEASE_SECONDS = 10.0
#: Two SIGTERMs at the same moment would reach a process as one; so the second is also said again.
BETWEEN_SIGNALS_SECONDS = 0.2


class State(StrEnum):
    #: A process was made and has not spoken yet.
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    #: Told to leave; finishes or releases what it holds.
    DRAINING = "draining"
    #: Died unasked; the next process waits a little.
    BACKOFF = "backoff"
    #: No process, and none waited for.
    STOPPED = "stopped"


class Happening(StrEnum):
    SPAWNED = "spawned"
    BOOTED = "booted"
    CLAIMED = "claimed"
    SETTLED = "settled"
    TOLD = "told to drain"
    DIED = "died"
    DUE = "due"


S, H = State, Happening
EDGES: dict[tuple[State, Happening], State] = {
    (S.STOPPED, H.SPAWNED): S.STARTING,
    (S.STARTING, H.BOOTED): S.IDLE,
    (S.IDLE, H.CLAIMED): S.BUSY,
    (S.BUSY, H.SETTLED): S.IDLE,
    (S.STARTING, H.TOLD): S.DRAINING,
    (S.IDLE, H.TOLD): S.DRAINING,
    (S.BUSY, H.TOLD): S.DRAINING,
    (S.BACKOFF, H.TOLD): S.STOPPED,
    # It could not even be made.
    (S.STOPPED, H.DIED): S.BACKOFF,
    (S.STARTING, H.DIED): S.BACKOFF,
    (S.IDLE, H.DIED): S.BACKOFF,
    (S.BUSY, H.DIED): S.BACKOFF,
    (S.DRAINING, H.DIED): S.STOPPED,
    (S.BACKOFF, H.DUE): S.STOPPED,
}

#: Why a process ended, the label of `slot_restarts_total`.
REASONS = ("crashed", "killed", "silent", "boot", "ended", "drained")


@dataclass(frozen=True)
class Child:
    """A process and the reading end of its pipe, as `spawn(slot)` returns them."""

    process: BaseProcess
    connection: Connection


@dataclass(frozen=True)
class Death:
    """A process that ended. `tokens` are to be abandoned; `sentence` is for the log."""

    slot: int
    pid: int
    exit_status: int
    reason: str
    tokens: Tokens
    sentence: str
    #: Events that could not be read.
    unreadable: int = 0


@dataclass
class Slot:
    """One place in the pool; `due_at`, `kill_at` and the rest are times on the pool's clock."""

    number: int
    state: State = State.STOPPED
    since: float = 0.0
    process: BaseProcess | None = None
    pipe: Pipe | None = None
    tokens: Tokens = field(default_factory=lambda: Tokens(0, 0, 0))
    heard_at: float = 0.0
    #: When it last renewed the lease of its own video.
    renewed_at: float = 0.0
    spawned_at: float = 0.0
    crashes: int = 0
    due_at: float = 0.0
    #: When a draining child was told, when it is told again, and when it is killed.
    told_at: float = 0.0
    release_at: float = 0.0
    kill_at: float | None = None
    #: Why we killed it: `silent` or `boot`.
    killed: str = ""
    #: Made before the settings changed; replaced once it is idle.
    stale: bool = False
    #: Not wanted any more: stays stopped.
    surplus: bool = False
    job: Claimed | Assisting | None = None
    job_at: float = 0.0
    progress: Progress | None = None

    def move(self, happening: Happening, now: float) -> None:
        """Take the edge, if there is one; what has none (a claim while draining) changes no state."""
        state = EDGES.get((self.state, happening), self.state)
        if state is not self.state:
            self.state, self.since = state, now

    def rest(self, now: float) -> None:
        """Its work is over."""
        self.job = self.progress = None
        self.move(Happening.SETTLED, now)

    def signal(self, number: int) -> None:
        if running(self.tokens):
            os.kill(self.tokens.pid, number)


class Pool:
    """Used by one thread only. `spawn(slot)` makes a child; `settings` may be replaced while it runs."""

    def __init__(self, spawn: Callable[[int], Child], settings: Settings, clock: Callable[[], float]) -> None:
        self.spawn = spawn
        self.settings = settings
        self._clock = clock
        self._leaving = False
        self.slots: list[Slot] = []

    def resize(self, count: int) -> None:
        """Take in new slots, or let the highest ones drain."""
        missing = set(range(count)) - {slot.number for slot in self.slots}
        self.slots = sorted([*self.slots, *map(Slot, missing)], key=lambda slot: slot.number)
        for slot in self.slots:
            slot.surplus = slot.number >= count
            if slot.surplus:
                self._tell(slot)

    def recycle(self) -> None:
        """Replace every process by one with the new settings, each as soon as it is idle."""
        for slot in self.slots:
            slot.stale = slot.process is not None

    def waitables(self) -> list[Any]:
        """What multiprocessing.connection.wait shall look at."""
        pipes = [slot.pipe for slot in self.slots if slot.pipe and slot.pipe.open]
        return [*pipes, *(slot.process.sentinel for slot in self.slots if slot.process)]

    def hear(self) -> Iterator[tuple[Slot, Event]]:
        """Every event that arrived, after the slot has taken note of it."""
        for slot in self.slots:
            yield from self._hear(slot)

    def ended(self) -> list[Slot]:
        """Slots whose process has ended. `hear` once more before `reap`: what it said last is still in its pipe."""
        return [slot for slot in self.slots if slot.process and slot.process.exitcode is not None]

    def reap(self, ended: list[Slot]) -> list[Death]:
        return [self._bury(slot) for slot in ended]

    def refill(self) -> list[str]:
        """Put a process into every wanted empty slot whose backoff is over; returns why some could not be made."""
        now = self._clock()
        for slot in self.slots:
            if slot.state is State.BACKOFF and now >= slot.due_at:
                slot.move(Happening.DUE, now)
        if not self._leaving:
            self.slots = [slot for slot in self.slots if not (slot.surplus and slot.state is State.STOPPED)]
        empty = [slot for slot in self.slots if slot.state is State.STOPPED and not (self._leaving or slot.surplus)]
        return [problem for slot in empty if (problem := self._fill(slot, now))]

    def watch(self) -> list[Slot]:
        """Tell stale idle children to leave; kill the silent, the unbooted and the overdue. Returns the killed."""
        now = self._clock()
        killed = []
        for slot in self.slots:
            if slot.stale and slot.state is State.IDLE:
                self._tell(slot)
            if slot.process and self._overstayed(slot, now):
                slot.signal(signal.SIGKILL)
                killed.append(slot)
        return killed

    def drain(self) -> None:
        """SIGTERM to every child, and no new ones."""
        self._leaving = True
        for slot in self.slots:
            self._tell(slot)

    def hurry(self, seconds: float) -> None:
        """Whoever drains now has this long at most, and not longer than it had."""
        until = self._clock() + seconds
        for slot in self.slots:
            slot.release_at = min(slot.release_at, until)

    def release(self) -> None:
        """The second SIGTERM: give back at once what is held. `watch` sends it."""
        self.drain()
        for slot in self.slots:
            slot.release_at = slot.told_at + BETWEEN_SIGNALS_SECONDS

    def kill(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        self._leaving = True
        for slot in self.slots:
            if slot.process:
                slot.signal(signal.SIGKILL)

    @property
    def empty(self) -> bool:
        return all(slot.process is None for slot in self.slots)

    def _fill(self, slot: Slot, now: float) -> str:
        try:
            child = self.spawn(slot.number)
        except (OSError, EOFError) as error:  # no memory, no pids, or a killed fork server, which comes back by itself
            self._crashed(slot, now)
            return f"Encoder {slot.number} could not be started: {error or type(error).__name__}"
        assert child.process.pid is not None
        slot.process, slot.pipe = child.process, Pipe(child.connection)
        slot.tokens = Tokens(slot.number, child.process.pid, start_time(child.process.pid) or 0)
        slot.heard_at = slot.spawned_at = now
        slot.kill_at = None
        slot.killed, slot.stale = "", False
        slot.move(Happening.SPAWNED, now)
        return ""

    def _hear(self, slot: Slot) -> Iterator[tuple[Slot, Event]]:
        for event in slot.pipe.read() if slot.pipe else ():
            now = slot.heard_at = self._clock()
            slot.tokens = after(slot.tokens, event)
            match event:
                case Booted():
                    slot.move(Happening.BOOTED, now)
                case Claimed() | Assisting():
                    slot.job, slot.progress = event, None
                    slot.job_at = slot.renewed_at = now
                    slot.move(Happening.CLAIMED, now)
                case Settled():
                    slot.rest(now)
                case ChunkEnded() if isinstance(slot.job, Assisting):
                    slot.rest(now)
                case Progress():
                    slot.progress = event
                case Counted(metric="lease_renewals"):
                    slot.renewed_at = now
            yield slot, event

    def _tell(self, slot: Slot) -> None:
        """SIGTERM, once: a second one means something else."""
        now = self._clock()
        if slot.process and slot.state is not State.DRAINING:
            slot.signal(signal.SIGTERM)
            slot.told_at, slot.release_at = now, now + self.settings.drain_seconds
        slot.move(Happening.TOLD, now)

    def _overstayed(self, slot: Slot, now: float) -> bool:
        """Whether the child must be killed now. A drain over its budget is told once more before that."""
        if slot.killed:
            return False
        if slot.state is State.DRAINING:
            if now >= slot.release_at:
                slot.signal(signal.SIGTERM)
                slot.release_at = now + BETWEEN_SIGNALS_SECONDS
                slot.kill_at = slot.kill_at or now + RELEASE_SECONDS
            slot.killed = "drain" if slot.kill_at is not None and now >= slot.kill_at else ""
        elif slot.state is State.STARTING:
            slot.killed = "boot" if now - slot.spawned_at > self.settings.boot_seconds else ""
        else:
            slot.killed = "silent" if now - slot.heard_at > self.settings.silent_seconds else ""
        return bool(slot.killed)

    def _bury(self, slot: Slot) -> Death:
        assert slot.process is not None
        assert slot.pipe is not None
        now, status = self._clock(), slot.process.exitcode or EXIT_DONE
        # When the fork server is killed its children look dead (255) and are not.
        slot.signal(signal.SIGKILL)
        reason, sentence = _why(slot, status)
        death = Death(slot.number, slot.tokens.pid, status, reason, slot.tokens, sentence, slot.pipe.unreadable)
        if slot.state is not State.DRAINING and now - slot.spawned_at >= self.settings.backoff_cap_seconds:
            slot.crashes = 0  # it was stable
        self._crashed(slot, now)
        slot.pipe.close()
        slot.process.close()
        slot.process = slot.pipe = slot.job = slot.progress = None
        return death

    def _crashed(self, slot: Slot, now: float) -> None:
        if slot.state is not State.DRAINING:
            slot.crashes += 1
            slot.due_at = now + backoff_seconds(slot.crashes, self.settings)
        slot.move(Happening.DIED, now)


def backoff_seconds(crashes: int, settings: Settings) -> float:
    """The wait after the `crashes`-th crash in a row (1, 2, …): doubled each time, up to the cap."""
    # 2^30 times any first wait is beyond every cap; more would overflow.
    return float(min(settings.backoff_first_seconds * 2 ** min(crashes - 1, 30), settings.backoff_cap_seconds))


def _why(slot: Slot, status: int) -> tuple[str, str]:
    """(reason, sentence) of an end; `status` is negative for a signal, as multiprocessing has it."""
    who = f"Encoder {slot.number} (pid {slot.tokens.pid})"
    if slot.killed == "silent":
        return "silent", f"{who} said nothing for too long and was killed."
    if slot.killed == "boot":
        return "boot", f"{who} did not come up in time and was killed."
    if slot.state is State.DRAINING:
        how = "was killed: its drain budget was over" if slot.killed else f"left as told (exit {status})"
        return "drained", f"{who} {how}."
    if status == -signal.SIGKILL:
        return "killed", f"{who} was killed from outside: out of memory? Look for 'oom' in the kernel's log."
    if status == EXIT_CONFIG:
        return "crashed", f"{who} cannot run with this configuration (exit {EXIT_CONFIG})."
    if status == EXIT_DONE:
        return "ended", f"{who} ended by itself (exit 0)."
    how = f"on signal {signal.Signals(-status).name}" if status < 0 else f"with exit {status}"
    return "crashed", f"{who} died {how}; its last lines in this log say why."
