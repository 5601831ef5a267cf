"""The supervisor's main loop: signals noted, children heard, reaped, replaced and watched, and all of it reported.

Nothing in the loop waits for the outside: databases, queues and HTTP clients belong to threads. So its turning is what
feeds systemd's watchdog, and it stands still only when the process is really stuck.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol

import structlog

from appliance.adapters.systemd import Notify
from appliance.config import Config
from appliance.domain.errors import ConfigError
from appliance.domain.events import EXIT_CONFIG, EXIT_DONE, Alive, Booted, Event
from appliance.domain.notice import Notice
from appliance.supervisor.abandon import Abandoner
from appliance.supervisor.board import Board, view
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.pool import RELEASE_SECONDS, Child, Death, Pool, Slot
from appliance.supervisor.reload import Answer, changes
from appliance.supervisor.tokens import TokenFiles, Tokens

#: The loop turns at least this often.
TURN_SECONDS = 1.0
#: For each thread to end in, once the pool is empty.
THREAD_SECONDS = 5.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Service(Protocol):
    """Something that lives in its own thread beside the loop."""

    def start(self) -> None: ...

    def stop(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Fitting:
    """What depends on the file and may change with it."""

    read: Callable[[], Config]
    #: (configuration) → how to make a child, and how many (with the sentence why).
    spawner: Callable[[Config], Callable[[int], Child]]
    count: Callable[[Config], tuple[int, str]]
    set_log_level: Callable[[str], None]
    #: Where it is said how a reload went.
    answer: Answer


class Supervisor:
    """`run()` must be called in the main thread: signals are delivered there."""

    def __init__(
        self,
        config: Config,
        fitting: Fitting,
        pool: Pool,
        *,
        abandoner: Abandoner,
        services: list[Service],
        files: TokenFiles,
        board: Board,
        dependencies: Dependencies,
        metrics: Metrics,
        notify: Notify,
        clock: Callable[[], float],
    ) -> None:
        self._config, self._fitting, self._pool = config, fitting, pool
        self._abandoner, self._services, self._files = abandoner, [abandoner, *services], files
        self._board, self._dependencies, self._metrics = board, dependencies, metrics
        self._notify, self._clock = notify, clock
        self._log = structlog.get_logger()
        self._notes: deque[int] = deque()
        self._ready = False
        self._leaving = False
        #: What EC2 said last that concerns the pool.
        self._notice: Notice | None = None
        self._status = EXIT_DONE
        self._reported = float("-inf")
        self._kept: dict[int, Tokens] = {}
        self._files_fail = False

    def run(self) -> int:
        """Until told to leave; returns the exit status."""
        with _signals(self._notes) as wakeup:
            try:
                self._begin()
                while not (self._leaving and self._pool.empty):
                    self._wait(wakeup)
                    self._heed()
                    self._yield_host()
                    self._hear_and_reap()
                    self._refill()
                    self._watch()
                    self._report()
            finally:
                self._end()
        return self._status

    def _begin(self) -> None:
        count, why = self._resize()
        self._log.info("SUPERVISOR_STARTED", pid=os.getpid(), encoders=count, why=why)
        for service in self._services:
            service.start()
        self._refill()

    def _wait(self, wakeup: int) -> None:
        """Until a child says something or ends, a signal arrives, or the turn is over."""
        if wakeup in wait([wakeup, *self._pool.waitables()], TURN_SECONDS):
            os.read(wakeup, 4096)

    def _heed(self) -> None:
        """Act on the signals noted since the last turn."""
        actions = {
            signal.SIGTERM: self._leave,
            signal.SIGINT: self._leave_now,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._dump,
        }
        while self._notes:
            number = signal.Signals(self._notes.popleft())
            self._log.info("SIGNAL", signal=number.name)
            actions[number]()

    def _yield_host(self) -> None:
        """Where EC2 takes the host away its work is handed over; where it does not after all, work is taken again."""
        found = self._board.notice if self._board.taken_away else None
        if found == self._notice:
            return
        self._notice = found
        if found is None:
            self._resize()
            return
        budget = self._config.pool.drain_seconds
        seconds = budget if found.within_seconds is None else min(budget, found.within_seconds)
        self._log.warning("HANDING_OVER", why=found.sentence, seconds=seconds)
        self._pool.resize(0)
        self._pool.hurry(seconds)

    def _resize(self) -> tuple[int, str]:
        """As many encoders as the settings say, and why; unless the host or the supervisor is to go."""
        self._board.encoders, why = self._fitting.count(self._config)
        if not self._drains:
            self._pool.resize(self._board.encoders)
        return self._board.encoders, why

    def _hear_and_reap(self) -> None:
        ended = self._pool.ended()
        touched = {}
        for slot, event in self._pool.hear():
            self._note(slot, event)
            touched[slot.number] = slot
        for slot in touched.values():
            self._keep(slot)
        for death in self._pool.reap(ended):
            self._mourn(death)

    def _refill(self) -> None:
        for problem in self._pool.refill():
            self._log.error("SPAWN_FAILED", error=problem, hint="Tried again, more slowly each time.")

    def _watch(self) -> None:
        for slot in self._pool.watch():
            self._log.warning("ENCODER_KILLED", slot=slot.number, pid=slot.tokens.pid, why=slot.killed)

    def _report(self) -> None:
        """The board at every turn; systemd about once a second, however many events there are."""
        now = self._clock()
        self._board.ticked_at, self._board.draining = now, self._drains
        self._board.slots = tuple(view(slot, now) for slot in self._pool.slots)
        if now - self._reported < TURN_SECONDS:
            return
        self._reported = now
        self._notify.alive()
        self._notify.status(self._line())
        if self._leaving:
            self._notify.extend_timeout(self._config.pool.drain_seconds + RELEASE_SECONDS + 3 * THREAD_SECONDS)

    @property
    def _drains(self) -> bool:
        return self._leaving or self._notice is not None

    def _line(self) -> str:
        states = [slot.state for slot in self._pool.slots]
        parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        backlog = self._board.backlog or {}
        waiting = f"; {backlog.get('UPLOADED', 0)} videos wait" if self._board.backlog is not None else ""
        return f"{'Draining: ' if self._drains else ''}{len(states)} encoders: {', '.join(parts) or 'none'}{waiting}"

    def _note(self, slot: Slot, event: Event) -> None:
        self._metrics.heard(event)
        if isinstance(event, Alive):
            self._dependencies.seen_by_child(f"slot {slot.number}", event.dependencies)
        if isinstance(event, Booted):
            self._log.info("ENCODER_BOOTED", slot=slot.number, pid=slot.tokens.pid)
            if not self._ready:
                self._ready = True
                self._notify.ready()

    def _keep(self, slot: Slot) -> None:
        """Mirror the slot's tokens on disk. A disk that refuses costs a restarted supervisor its haste, no more."""
        if self._kept.get(slot.number) == slot.tokens:
            return
        self._kept[slot.number] = slot.tokens
        try:
            if slot.tokens:
                self._files.keep(slot.tokens)
            else:
                self._files.forget(slot.tokens)
        except OSError as error:
            if not self._files_fail:
                self._log.warning("TOKENS_NOT_KEPT", error=str(error))
            self._files_fail = True
        else:
            self._files_fail = False

    def _mourn(self, death: Death) -> None:
        log = self._log.info if death.reason == "drained" else self._log.warning
        log("ENCODER_ENDED", slot=death.slot, reason=death.reason, exit_status=death.exit_status, why=death.sentence)
        self._dependencies.forget(f"slot {death.slot}")
        self._metrics.count("events_dropped", amount=death.unreadable)
        if death.tokens:
            self._abandoner.add(death.tokens)
        if death.exit_status == EXIT_CONFIG and not self._leaving:
            self._log.error("CONFIGURATION_REFUSED", hint="The encoder's last lines say what to change.")
            self._status = EXIT_CONFIG
            self._leave()
        elif not self._leaving:
            self._metrics.count("slot_restarts", death.reason)

    def _leave(self) -> None:
        """The first time: drain. The second time: release at once."""
        if self._leaving:
            self._leave_now()
            return
        self._leaving = True
        self._log.info("DRAINING", seconds=self._config.pool.drain_seconds)
        self._notify.stopping()
        self._reported = float("-inf")  # systemd is to know at once for how long
        self._pool.drain()

    def _leave_now(self) -> None:
        if not self._leaving:
            self._leave()
        self._log.info("RELEASING")
        self._pool.release()

    def _reload(self) -> None:
        try:
            new = self._fitting.read()
        except ConfigError as error:
            self._log.error("RELOAD_FAILED", problems=error.problems, hint="The old settings stay; mend the file.")
            self._answer(error.problems)
            return
        found = changes(self._config, new)
        self._config = new
        self._fitting.set_log_level(new.log.level)
        self._pool.settings, self._pool.spawn = new.pool, self._fitting.spawner(new)
        count, why = self._resize()
        if found.with_next_encoders:
            self._pool.recycle()
        told = {
            "at_once": found.at_once,
            "as_encoders_become_idle": found.with_next_encoders,
            "supervisor_needs_restart": found.after_restart,
        }
        self._log.info("RELOADED", encoders=count, why=why, **told)
        self._answer([], **told)

    def _answer(self, problems: list[str], **told: Any) -> None:
        try:
            self._fitting.answer.give(problems, **told)
        except OSError as error:
            self._log.warning("RELOAD_ANSWER_NOT_GIVEN", error=str(error))

    def _dump(self) -> None:
        now = self._clock()
        self._log.info(
            "STATE",
            **self._board.status(now, self._dependencies.down_seconds()),
            tokens={slot.number: [*map(str, slot.tokens.videos | slot.tokens.chunks)] for slot in self._pool.slots},
            threads=[thread.name for thread in threading.enumerate()],
        )

    def _end(self) -> None:
        """Nothing stays behind: normally the pool is empty here."""
        self._pool.kill()
        for service in reversed(self._services):
            service.stop(THREAD_SECONDS)
        self._log.info("SUPERVISOR_ENDED", exit_status=self._status)


@contextmanager
def _signals(notes: deque[int]) -> Iterator[int]:
    """Signals become notes; the yielded descriptor becomes readable when there is one. All is as before afterwards."""

    def note(number: int, _frame: Any) -> None:
        notes.append(number)

    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, note) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
