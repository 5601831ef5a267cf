"""The notes that signals leave in a child, and what they mean: drain, then release at once."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType


class Drain:
    """First SIGTERM: take no new work, finish what ends within `budget_seconds`. Second: give everything back now.

    A pipe, not an Event: an Event set by a signal handler while the same thread waits on it can deadlock. `wait` is for
    the main thread; everything else may be read from any thread.
    """

    def __init__(self, budget_seconds: float) -> None:
        self._budget_seconds = budget_seconds
        self._notes = 0
        self._since = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def listen(self) -> None:
        """Take the signals. Ctrl-C reaches every process of the terminal: the supervisor alone answers it."""
        signal.signal(signal.SIGTERM, self.note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def note(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """What a SIGTERM does; nothing more happens inside of the handler."""
        if not self._notes:
            self._since = time.monotonic()
        self._notes += 1
        if self._notes <= 2:  # more say nothing new, and a full pipe would raise
            os.write(self._writer, b".")

    @property
    def asked(self) -> bool:
        return self._notes > 0

    @property
    def left_seconds(self) -> float:
        """What remains of the budget; 0 after the second note, endless before the first."""
        if not self._notes:
            return float("inf")
        if self._notes > 1:
            return 0.0
        return max(0.0, self._since + self._budget_seconds - time.monotonic())

    @property
    def over(self) -> bool:
        """Whatever is still held must be released now."""
        return self.left_seconds <= 0

    def wait(self, seconds: float, *descriptors: int) -> None:
        """Until the seconds have passed, the budget has, another note arrives, or a descriptor can be read."""
        longest = max(0.0, min(seconds, self.left_seconds))
        ready, _, _ = select.select([self._reader, *descriptors], [], [], longest)
        if self._reader in ready:
            os.read(self._reader, 1)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)
