"""The schema, applied from `schema/*.sql`: by anybody, any number of times, from several hosts at once."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources.abc import Traversable
from typing import Any

import psycopg2
from psycopg2 import sql

from appliance.adapters.postgres.connection import at_the_door
from appliance.adapters.postgres.statements import identifiers, split, sql_files, statements
from appliance.domain.errors import Unavailable

#: How long to wait for another host's migration, an index on a large table included.
WAIT_SECONDS = 600.0
POLL_SECONDS = 0.1
#: How long a change waits for a table that somebody uses.
LOCK_TIMEOUT = "5s"
#: A file that begins so runs outside a transaction.
AUTOCOMMIT = "-- autocommit:"


def migrate(
    dsn: str, *, table: str, connect_timeout_seconds: float = 5.0, wait: Callable[[float], object] | None = None
) -> list[str]:
    """Bring the schema up to date; returns the names of the files that were applied, in order.

    Raises Unavailable when the server does not answer, refuses, or the platform's table is locked: then run it again.
    """
    say = {name: statement.composed(table) for name, statement in statements().items()}
    with at_the_door(), _connected(dsn, connect_timeout_seconds) as cursor:
        cursor.execute(say["migrate_patience"], {"lock_timeout": LOCK_TIMEOUT})
        _lock(cursor, say["migrate_lock"], table, wait or threading.Event().wait)
        cursor.execute(say["migrate_record"])
        cursor.execute(say["migrate_applied"])
        applied = {row[0] for row in cursor.fetchall()}
        todo = [file for file in sql_files("schema") if file.name not in applied]
        for file in todo:
            _apply(cursor, file, say["migrate_note"], table)
        return [file.name for file in todo]


@contextlib.contextmanager
def _connected(dsn: str, connect_timeout_seconds: float) -> Iterator[Any]:
    """A cursor in autocommit. The advisory lock ends with the connection, however that ends."""
    connection = psycopg2.connect(
        dsn, connect_timeout=math.ceil(connect_timeout_seconds), application_name="video-appliance migrate"
    )
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def _lock(cursor: Any, lock: sql.Composable, table: str, wait: Callable[[float], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        cursor.execute(lock, {"table": table})
        if cursor.fetchone()[0]:
            return
        if time.monotonic() > deadline:
            raise Unavailable("postgres", "Another host is migrating for too long.", hint="Look into pg_stat_activity.")
        wait(POLL_SECONDS)


def _apply(cursor: Any, file: Traversable, note: sql.Composable, table: str) -> None:
    script = file.read_text(encoding="utf-8")
    names = identifiers(table)
    parameters = {"table": table, "name": file.name}
    together = not script.startswith(AUTOCOMMIT)
    if together:
        cursor.execute("BEGIN")
    for statement in [*(sql.SQL(text).format(**names) for text in split(script)), note]:
        cursor.execute(statement, parameters)
    if together:
        cursor.execute("COMMIT")
