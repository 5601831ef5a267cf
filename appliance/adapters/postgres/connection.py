"""One connection to PostgreSQL: named statements in, rows out, each statement its own transaction.

The connection is asynchronous and waited for here, because libpq's blocking calls have no deadline of their own: a
server that was frozen with its kernel alive would hold the caller for ever.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2 import errorcodes, extensions
from psycopg2.extras import Json

from appliance.adapters.postgres.statements import Statement, statements
from appliance.domain.errors import ApplianceError, ConfigError, Unavailable

DEPENDENCY = "postgres"
#: A connection that was quiet for longer is asked before it is trusted with a write: proxies drop idle ones (F25).
TRUSTED_SECONDS = 5.0
#: What a statement may take longer than the server's own limit, before the server counts as gone.
MARGIN_SECONDS = 5.0
#: A dead peer is noticed within a minute, also by a connection that only waits.
KEEPALIVES: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
UUID_OID = 2950
#: After so many runs on a connection a statement's plan is kept; a verb of the command line seldom gets there.
PREPARED_RUN = 4
#: Kept plans are made anew after this time: a table that was empty then may have grown.
PLANS_SECONDS = 60.0
#: The plan is not there (a pooler gave us another server process) or fits no more (a column got another type).
PLAN_LOST = (
    errorcodes.INVALID_SQL_STATEMENT_NAME,
    errorcodes.DUPLICATE_PREPARED_STATEMENT,
    errorcodes.FEATURE_NOT_SUPPORTED,
)

HINTS = {
    errorcodes.UNDEFINED_TABLE: "Run `video-appliance migrate`.",
    errorcodes.UNDEFINED_COLUMN: "Run `video-appliance migrate`.",
    errorcodes.INSUFFICIENT_PRIVILEGE: "Grant the appliance's role SELECT, INSERT, UPDATE and DELETE on its tables.",
    errorcodes.TOO_MANY_CONNECTIONS: "Raise max_connections or lower pool.encoders: each encoder holds two.",
    errorcodes.QUERY_CANCELED: "Look for a long transaction that holds the row, or raise statement_timeout_seconds.",
    errorcodes.READ_ONLY_SQL_TRANSACTION: "Point database.dsn at the primary (target_session_attrs=read-write).",
}
#: Classes of SQLSTATE that say nothing about the statement: it may be tried again later.
PASSING = ("08", "25", "40", "53", "55", "57", "58")

#: How a server that is full puts it; libpq hands on no SQLSTATE while it connects.
FULL = ("too many clients", "too many connections", "remaining connection slots")


class AmbiguousCommit(Unavailable):
    """The connection was lost while a writing statement ran: nobody knows whether it was committed."""


class ConnectionLost(Unavailable):
    """The connection broke under a statement."""


class PlanLost(ApplianceError):
    """A kept plan could not be used; nothing ran."""


class Database:
    """Connects with the first statement, and again whenever the connection was lost. Safe to share between threads.

    `search_path` is for tests, which put a now() of their own before pg_catalog.
    """

    def __init__(
        self,
        dsn: str,
        *,
        application_name: str,
        table: str = "video",
        connect_timeout_seconds: float = 5.0,
        statement_timeout_seconds: float = 10.0,
        search_path: str = "",
    ) -> None:
        self.table = table
        self._dsn = dsn
        self._application_name = application_name
        self._connect_timeout_seconds = connect_timeout_seconds
        self._statement_timeout_seconds = statement_timeout_seconds
        self._search_path = search_path
        self._statements = {name: (found, found.composed(table)) for name, found in statements().items()}
        self._connection: Any = None
        self._prepares = True
        self._runs: Counter[Statement] = Counter()
        self._prepared: dict[Statement, str] = {}
        self._planned = -math.inf
        self._answered = -math.inf
        self._lock = threading.Lock()

    def run(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a named statement, which is committed when this returns.

        Raises Unavailable when PostgreSQL does not answer or cannot now; AmbiguousCommit when it was lost while a
        writing statement ran; ApplianceError when it refuses what it was asked.
        """
        found, query = self._statements[statement]
        values = {name: _plain(value) for name, value in parameters.items()}
        with self._lock:
            self._connect_if_needed(doubt=found.writes)  # a read that meets a dead connection is read again
            try:
                return self._planned_once(found, query, values)
            except ConnectionLost as lost:
                if found.writes:
                    raise AmbiguousCommit(
                        DEPENDENCY, f"The connection was lost during `{statement}`: {lost.sentence}", hint=lost.hint
                    ) from lost
            self._connect_if_needed()
            return self._execute(query, values)

    def settle(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """As `run`, for a statement whose token makes it harmless to run twice: an ambiguous one is run once more."""
        try:
            return self.run(statement, **parameters)
        except AmbiguousCommit:
            return self.run(statement, **parameters)

    def ping(self) -> bool:
        """Whether PostgreSQL answers now."""
        with self._lock:
            try:
                self._connect_if_needed()
                self._execute(self._statements["check"][1], {})
            except ApplianceError:
                return False
        return True

    def answered_seconds_ago(self) -> float:
        """Seconds since the last answer; infinite before the first."""
        return time.monotonic() - self._answered

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        with self._lock:
            self._drop()

    def _connect_if_needed(self, *, doubt: bool = True) -> None:
        if self._connection is not None and doubt and self._suspicious():
            with contextlib.suppress(ConnectionLost):
                self._execute(self._statements["check"][1], {})
        if self._connection is None:
            self._connect()

    def _suspicious(self) -> bool:
        """Quiet for long, or with something to read though nothing was asked: the server's farewell."""
        return _ready(self._connection, select.POLLIN, 0) or self.answered_seconds_ago() > TRUSTED_SECONDS

    def _connect(self) -> None:
        try:
            self._connection = psycopg2.connect(
                self._dsn,
                async_=True,
                application_name=self._application_name,
                tcp_user_timeout=round(1000 * (self._statement_timeout_seconds + MARGIN_SECONDS)),
                **KEEPALIVES,
            )
        except psycopg2.ProgrammingError:  # its text holds the DSN, and so the password (F49)
            raise ConfigError(["database.dsn: is not a PostgreSQL DSN"]) from None
        except psycopg2.OperationalError as error:
            raise _refused(error) from error
        try:
            self._wait(self._connect_timeout_seconds)
        except (psycopg2.Error, TimeoutError) as error:
            self._drop()
            raise _refused(error, _place(self._dsn)) from error
        extensions.register_type(extensions.new_type((UUID_OID,), "UUID", _uuid), self._connection)
        self._execute(self._statements["session"][1], self._session())

    def _session(self) -> dict[str, str]:
        return {
            "statement_timeout": str(round(1000 * self._statement_timeout_seconds)),
            "search_path": self._search_path,
        }

    def _planned_once(self, found: Statement, query: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """As `_execute`, but what this connection runs again and again keeps its plan, where the server lets it."""
        if not self._prepares or self._runs[found] < PREPARED_RUN:
            self._runs[found] += 1
            return self._execute(query, values)
        try:
            return self._execute(self._kept(found, query), values)
        except PlanLost:
            self._prepares = False
        return self._execute(query, values)

    def _kept(self, found: Statement, query: Any) -> str:
        """What runs the kept plan, which is made when there is none; old ones are thrown away."""
        if time.monotonic() - self._planned > PLANS_SECONDS:
            self._execute("DISCARD PLANS", {})
            self._planned = time.monotonic()
        if found not in self._prepared:
            preparing, executing = found.prepared(query.as_string(self._connection))
            self._execute(preparing, {})
            self._prepared[found] = executing
        return self._prepared[found]

    def _execute(self, query: Any, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            cursor = self._connection.cursor()
            cursor.execute(query, parameters)
            self._wait(self._statement_timeout_seconds + MARGIN_SECONDS)
        except (psycopg2.Error, TimeoutError) as error:
            raise self._translated(error) from error
        except BaseException:  # a signal's exception: the answer on its way belongs to nobody
            self._drop()
            raise
        self._answered = time.monotonic()
        if not cursor.description:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _wait(self, seconds: float) -> None:
        """Until the connection has nothing under way. Raises TimeoutError, or what the server answered."""
        deadline = time.monotonic() + seconds
        while (state := self._connection.poll()) != extensions.POLL_OK:
            event = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
            if not _ready(self._connection, event, deadline - time.monotonic()):
                raise TimeoutError(f"there was no answer within {seconds:g} s")

    def _translated(self, error: psycopg2.Error | TimeoutError) -> ApplianceError:
        """As one of ours. A connection that is broken, or bound to a server that cannot write, is dropped."""
        code = getattr(error, "pgcode", None) or ""
        sentence = f"PostgreSQL: {_first_line(error)}"
        if code and not self._connection.closed and not code.startswith("57P"):
            self._answered = time.monotonic()
            if code == errorcodes.READ_ONLY_SQL_TRANSACTION:
                self._drop()
            if code in PLAN_LOST:
                return PlanLost(sentence)
            if code in HINTS or code.startswith(PASSING):
                return Unavailable(DEPENDENCY, sentence, hint=HINTS.get(code, ""))
            return ApplianceError(sentence)
        self._drop()
        return ConnectionLost(DEPENDENCY, sentence)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._runs.clear()
        self._prepared.clear()
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()


def refusal(error: BaseException | None) -> str:
    """Why PostgreSQL said no (a password, a right, a table); empty when it did not answer, or not now."""
    if not isinstance(error, psycopg2.Error):
        return ""
    words, code = _first_line(error), error.pgcode or ""
    passing = code.startswith(PASSING) or any(word in words for word in (*FULL, "is starting up", "is shutting down"))
    return words if (code or "FATAL:" in words) and not passing else ""


@contextlib.contextmanager
def at_the_door() -> Iterator[None]:
    """psycopg2's errors as ours, for whoever holds a connection of its own."""
    try:
        yield
    except psycopg2.ProgrammingError as error:
        if error.pgcode is None:
            raise ConfigError(["database.dsn: is not a PostgreSQL DSN"]) from None
        raise _refused(error) from error
    except psycopg2.Error as error:
        raise _refused(error) from error


def _ready(connection: Any, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), event)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _place(dsn: str) -> str:
    """Where it should be: what a refused connection does not say by itself."""
    parts = extensions.parse_dsn(dsn)
    return f" at {parts['host']}:{parts.get('port', 5432)}" if "host" in parts else ""


def _refused(error: Exception, place: str = "") -> Unavailable:
    code = getattr(error, "pgcode", None) or ""
    hint = HINTS.get(code, "Check that the server runs and that database.dsn names it.")
    if any(words in str(error) for words in FULL):
        hint = HINTS[errorcodes.TOO_MANY_CONNECTIONS]
    return Unavailable(DEPENDENCY, f"PostgreSQL{place} cannot be used: {_first_line(error)}", hint=hint)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _plain(value: Any) -> Any:
    """What psycopg2 can write: tokens as text, dictionaries as JSON, no character that PostgreSQL refuses."""
    match value:
        case UUID():
            return str(value)
        case str():
            return _clean(value)
        case dict():
            return Json(_clean_json(value), dumps=lambda fields: json.dumps(fields, default=str))
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _clean(text: str) -> str:
    """Without NUL and lone surrogates, which ffmpeg's last words and file names may hold."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _clean_json(value: Any) -> Any:
    match value:
        case str():
            return _clean(value)
        case dict():
            return {_clean_json(key): _clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean_json(item) for item in value]
        case _:
            return value


def _uuid(value: Any, cursor: object) -> UUID | None:
    del cursor
    return None if value is None else UUID(value)
