"""Which outside machines answer, as each part of this host last saw it: one log line per outage, one at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from appliance.domain.errors import Unavailable

#: The names that `Unavailable.dependency` and the children's `Alive` use.
DEPENDENCIES = ("postgres", "sqs", "redis", "s3", "cloudwatch")


class Dependencies:
    """Safe to use from every thread. An observer is a thread of ours or a child's slot."""

    def __init__(self, clock: Callable[[], float], count: Callable[[str, str], None]) -> None:
        """`count("dependency_errors", name)` is called for each call that was not answered."""
        self._clock, self._count = clock, count
        self._lock = threading.Lock()
        self._log = structlog.get_logger()
        self._down: dict[str, dict[str, float]] = {name: {} for name in DEPENDENCIES}

    @contextmanager
    def watched(self, observer: str, *names: str) -> Iterator[None]:
        """Calls to these dependencies: they answered, unless Unavailable comes out (which is noted and goes on)."""
        try:
            yield
        except Unavailable as error:
            self.lost(observer, error.dependency, error)
            raise
        for name in names:
            self.answered(observer, name)

    def answered(self, observer: str, name: str) -> None:
        with self._lock:
            was = self._down.get(name, {}).pop(observer, None)
        if was is not None:
            self._log.info("DEPENDENCY_BACK", dependency=name, seen_by=observer, seconds=round(self._clock() - was, 1))

    def lost(self, observer: str, name: str, error: Unavailable | None = None) -> None:
        """An observer that has said so already adds to the count only."""
        self._count("dependency_errors", name)
        with self._lock:
            observers = self._down.setdefault(name, {})
            new = observer not in observers
            observers.setdefault(observer, self._clock())
        if new:
            self._log.warning(
                "DEPENDENCY_DOWN",
                dependency=name,
                seen_by=observer,
                error=error.sentence if error else "",
                hint=error.hint if error else "",
            )

    def seen_by_child(self, observer: str, view: dict[str, bool]) -> None:
        """A child's own view; it logs for itself, so nothing is said or counted here."""
        with self._lock:
            for name, answers in view.items():
                observers = self._down.setdefault(name, {})
                if answers:
                    observers.pop(observer, None)
                else:
                    observers.setdefault(observer, self._clock())

    def forget(self, observer: str) -> None:
        """The child is gone, and its view with it."""
        with self._lock:
            for observers in self._down.values():
                observers.pop(observer, None)

    def down_seconds(self) -> dict[str, float | None]:
        """Name → for how long somebody has had no answer from it; None: it answers everybody."""
        now = self._clock()
        with self._lock:
            return {name: now - min(seen.values()) if seen else None for name, seen in self._down.items()}
