"""What only the status page wants to know of the database, asked for only while somebody looks at it.

A thread with a connection of its own, which is closed when nobody looks any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from appliance.adapters.postgres.reports import Reports
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.supervisor.board import Board
from appliance.supervisor.history import Sample

#: Videos on the page.
RECENT = 10
#: A page asks every two seconds, or every fifteen from a hidden tab; after this long it was closed.
GONE_SECONDS = 40.0
#: A backlog that is older than so many ticks is not known any more.
STALE_TICKS = 3


class Onlooker:
    """`look()` is called with every request for the page's figures, by any thread. `close` ends the connection."""

    def __init__(self, board: Board, reports: Reports, close: Callable[[], None], tick_seconds: float) -> None:
        self._board, self._reports, self._close, self._tick_seconds = board, reports, close, tick_seconds
        self._looked_at = self._asked_at = float("-inf")
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onlooker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)

    def look(self) -> None:
        """Somebody looks. The first one does not wait for the next turn."""
        if not self._watched():
            self._wake.set()
        self._looked_at = time.monotonic()

    def turn(self) -> None:
        """A sample for the plot; and, while somebody looks, one look at the database a tick."""
        self._sample()
        now = time.monotonic()
        if not self._watched():
            self._close()
        elif now - self._asked_at >= 0.9 * self._tick_seconds:
            self._asked_at = now
            self._ask()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.turn()
            except Exception:  # noqa: BLE001 - a mistake of ours must not end the thread
                structlog.get_logger().exception("ONLOOKER_FAILED")
            self._wake.wait(self._tick_seconds)
            self._wake.clear()
        self._close()

    def _watched(self) -> bool:
        return time.monotonic() - self._looked_at < max(GONE_SECONDS, 2 * self._tick_seconds)

    def _sample(self) -> None:
        backlog, learnt_at = self._board.backlog, self._board.learnt_at
        if backlog is None or learnt_at is None or time.monotonic() - learnt_at > STALE_TICKS * self._tick_seconds:
            backlog = {}
        busy = sum(slot.video_id is not None for slot in self._board.slots)
        sample = Sample(round(time.time(), 1), backlog.get("UPLOADED"), backlog.get("PROCESSING"), busy)
        self._board.history.add(sample)

    def _ask(self) -> None:
        """What was seen last stays on the board, with its age, while the database is away: the tick says that."""
        here = {slot.video_id for slot in self._board.slots if slot.video_id is not None}
        try:
            self._board.recent = tuple(self._reports.recent(RECENT))
            self._board.at_work = self._reports.at_work(sorted(here))
        except Unavailable:
            return
        except ApplianceError as error:
            structlog.get_logger().error("ONLOOKER_FAILED", error=error.sentence, hint=error.hint)
            return
        self._board.seen_at = time.monotonic()
