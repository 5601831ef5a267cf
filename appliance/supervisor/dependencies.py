"""Which outside machines answer, as each part of this host last saw it: one log line per outage, one at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from appliance.domain.errors import Unavailable

#: The names that `Unavailable.dependency` and the children's `Alive` use.
DEPENDENCIES = ("postgres", "sqs", "redis", "s3", "cloudwatch", "autoscaling", "ssm", "ec2")


@dataclass(frozen=True)
class Seen:
    """One dependency for people. `up`: None until it was asked once; `since_seconds`: for how long it is as it is.

    `error` and `hint` are sentences, empty while it answers; `seen_by`: who has no answer.
    """

    up: bool | None
    since_seconds: float | None
    error: str = ""
    hint: str = ""
    seen_by: tuple[str, ...] = ()


class Dependencies:
    """Safe to use from every thread. An observer is a thread of ours or a child's slot."""

    def __init__(self, clock: Callable[[], float], count: Callable[[str, str], None]) -> None:
        """`count("dependency_errors", name)` is called for each call that was not answered."""
        self._clock, self._count = clock, count
        self._lock = threading.Lock()
        self._log = structlog.get_logger()
        self._down: dict[str, dict[str, float]] = {name: {} for name in DEPENDENCIES}
        #: Name → when it was first asked, or answered everybody again; and what was last wrong with it.
        self._up_at: dict[str, float] = {}
        self._words: dict[str, tuple[str, str]] = {}

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
            self._risen(name, was is not None)
        if was is not None:
            self._log.info("DEPENDENCY_BACK", dependency=name, seen_by=observer, seconds=round(self._clock() - was, 1))

    def lost(self, observer: str, name: str, error: Unavailable | None = None) -> None:
        """An observer that has said so already adds to the count only."""
        self._count("dependency_errors", name)
        with self._lock:
            observers = self._down.setdefault(name, {})
            new = observer not in observers
            observers.setdefault(observer, self._clock())
            self._words[name] = (error.sentence, error.hint) if error else self._words.get(name, ("", ""))
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
                    self._risen(name, observers.pop(observer, None) is not None)
                else:
                    observers.setdefault(observer, self._clock())

    def forget(self, observer: str) -> None:
        """The child is gone, and its view with it."""
        with self._lock:
            for name, observers in self._down.items():
                if observers.pop(observer, None) is not None:
                    self._risen(name, was_down=True)

    def down_seconds(self) -> dict[str, float | None]:
        """Name → for how long somebody has had no answer from it; None: it answers everybody."""
        now = self._clock()
        with self._lock:
            return {name: now - min(seen.values()) if seen else None for name, seen in self._down.items()}

    def seen(self) -> dict[str, Seen]:
        """The same, for people."""
        now = self._clock()
        with self._lock:
            return {name: self._seen(name, observers, now) for name, observers in self._down.items()}

    def _seen(self, name: str, observers: dict[str, float], now: float) -> Seen:
        if observers:
            error, hint = self._words.get(name, ("", ""))
            error = error or f"No answer from {name}; the log says why."
            return Seen(False, round(now - min(observers.values()), 1), error, hint, tuple(sorted(observers)))
        up_at = self._up_at.get(name)
        return Seen(None, None) if up_at is None else Seen(True, round(now - up_at, 1))

    def _risen(self, name: str, was_down: bool) -> None:
        """Somebody has an answer (again). Called with the lock held."""
        if not self._down.get(name):
            if was_down:
                self._words.pop(name, None)
                self._up_at[name] = self._clock()
            self._up_at.setdefault(name, self._clock())
