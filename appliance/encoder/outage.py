"""An outage as one encoder sees it: one log line when it begins, one when it ends, longer waits in between."""

from __future__ import annotations

import time

import structlog

from appliance.domain.errors import Unavailable

FIRST_WAIT_SECONDS = 1.0


class Outage:
    """Of one dependency, seen by one thread. Waits double from 1 s up to `longest_wait_seconds`."""

    def __init__(self, dependency: str, *, longest_wait_seconds: float = 20.0) -> None:
        self._dependency = dependency
        self._longest_wait_seconds = longest_wait_seconds
        self._log = structlog.get_logger()
        self._since: float | None = None
        self._first_wait_seconds = min(FIRST_WAIT_SECONDS, longest_wait_seconds)
        self._wait_seconds = self._first_wait_seconds

    def failed(self, error: Unavailable) -> float:
        """Note a call without an answer; returns the seconds to wait before the next."""
        if self._since is None:
            self._since = time.monotonic()
            self._log.warning("DEPENDENCY_DOWN", dependency=self._dependency, error=error.sentence, hint=error.hint)
        wait, self._wait_seconds = self._wait_seconds, min(2 * self._wait_seconds, self._longest_wait_seconds)
        return wait

    def answered(self) -> None:
        if self._since is not None:
            seconds = round(time.monotonic() - self._since, 1)
            self._log.info("DEPENDENCY_BACK", dependency=self._dependency, seconds=seconds)
        self._since, self._wait_seconds = None, self._first_wait_seconds
