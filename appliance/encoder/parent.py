"""The supervisor as its child knows it: a pipe that takes events, and a process whose end is ours too."""

from __future__ import annotations

import multiprocessing
import os
import select
import threading
import time
from multiprocessing.connection import Connection, wait

from appliance.domain.events import EXIT_ORPHANED, Alive, Counted, Event, Progress

#: A pipe that is full this long has a reader that stands still: whatever it is, the event is dropped.
PATIENCE_SECONDS = 1.0
#: A sign of life is due this often at most; the pool's `silent_seconds` is many times as long.
ALIVE_SECONDS = 5.0
#: How often the fork server is looked for; the supervisor's own end is noticed at once.
FORK_SERVER_SECONDS = 1.0


class Parent:
    """Tells the supervisor what happens here. Safe to use from every thread; never blocks an encode for long."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._dependencies: dict[str, bool] = {}
        self._alive_at = float("-inf")
        #: Events that did not fit; told once there is room again.
        self.dropped = 0

    def announce(self, event: Event) -> None:
        """Send it. Signs of life and progress are dropped from a full pipe at once, all else after a second."""
        patience = 0.0 if isinstance(event, Alive | Progress) else PATIENCE_SECONDS
        with self._lock:
            if self._send(event, patience) and self.dropped and self._send(_dropped(self.dropped), 0.0):
                self.dropped = 0

    def count(self, metric: str, *labels: str) -> None:
        """Add one to a counter of the supervisor."""
        self.announce(Counted(metric, labels=labels))

    def saw(self, dependency: str, *, answers: bool) -> None:
        """Remember, for the next sign of life, whether this dependency answered."""
        self._dependencies[dependency] = answers

    def alive(self) -> None:
        """A sign of life, if the last one is some seconds old."""
        now = time.monotonic()
        if now - self._alive_at >= ALIVE_SECONDS:
            self._alive_at = now
            self.announce(Alive(dict(self._dependencies)))

    def _send(self, event: Event, patience: float) -> bool:
        try:
            _, writable, _ = select.select([], [self._connection], [], patience)
            if writable:
                self._connection.send(event)
                return True
        except OSError:  # the supervisor is gone, and this process soon is
            pass
        self.dropped += 1
        return False


def _dropped(amount: int) -> Counted:
    return Counted("events_dropped", float(amount))


def die_with_parent() -> None:
    """End this process at once when the supervisor or the fork server has gone (F31).

    A killed supervisor closes the pipe behind `sentinel`; a killed fork server changes who our parent is. What
    starts our ffmpeg sees its socket close the moment this process ends, and kills it.
    """
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None, "an encoder is a child of the supervisor"
    fork_server = os.getppid()

    def watch() -> None:
        while os.getppid() == fork_server and not wait([supervisor.sentinel], FORK_SERVER_SECONDS):
            pass
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="orphan", daemon=True).start()
