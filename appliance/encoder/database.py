"""The database as one encoder's main thread sees it: whether it answers, and insisting until it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from appliance.adapters.postgres.connection import Database
from appliance.domain.errors import Unavailable
from appliance.encoder.drain import Drain
from appliance.encoder.outage import Outage
from appliance.encoder.parent import Parent

T = TypeVar("T")

#: No message is taken unless the database answered this process within so many seconds.
FRESH_SECONDS = 5.0
HINT = "Check that the server runs and that database.dsn names it; nothing is taken from the queue meanwhile."


class Access:
    """One log line per outage; the supervisor hears of it with every sign of life."""

    def __init__(self, connection: Database, *, parent: Parent, drain: Drain, longest_wait_seconds: float) -> None:
        self._connection = connection
        self._parent = parent
        self._drain = drain
        self._outage = Outage("postgres", longest_wait_seconds=longest_wait_seconds)

    def answers(self) -> bool:
        """Asks only when the last answer is some seconds old."""
        if self._connection.answered_seconds_ago() > FRESH_SECONDS and not self._connection.ping():
            self._failed(Unavailable("postgres", "PostgreSQL does not answer.", hint=HINT))
            return False
        self._answered()
        return True

    def insist(self, statement: Callable[[], T], *, give_up: Callable[[], bool]) -> T:
        """Run a statement until the database answers it. Raises Unavailable only once `give_up` says so."""
        while True:
            try:
                answer = statement()
            except Unavailable as error:
                wait = self._failed(error)
                if give_up():
                    raise
            else:
                self._answered()
                return answer
            self._parent.alive()
            self._drain.wait(wait)

    def _failed(self, error: Unavailable) -> float:
        self._parent.saw("postgres", answers=False)
        self._parent.count("dependency_errors", "postgres")
        return self._outage.failed(error)

    def _answered(self) -> None:
        self._outage.answered()
        self._parent.saw("postgres", answers=True)
