"""The schema, applied from `schema/*.sql`: by anybody, any number of times, from several hosts at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources.abc import Traversable
from typing import Any

import psycopg2
from psycopg2 import sql

from appliance.adapters.postgres.connection import at_the_door
from appliance.adapters.postgres.statements import identifiers, split, sql_files
from appliance.domain.errors import Unavailable

CONNECT_TIMEOUT_SECONDS = 10
#: How long to wait for another host's migration, an index on a large table included.
WAIT_SECONDS = 600.0
POLL_SECONDS = 0.1
#: A file that begins so runs outside a transaction.
AUTOCOMMIT = "-- autocommit:"

#: A change of the platform's table gives up rather than hold up everybody who queues behind it.
SESSION = "SET lock_timeout = '5s'"
#: Tried, not waited for: a waiting statement holds a snapshot, and CREATE INDEX CONCURRENTLY waits for every snapshot.
LOCK = "SELECT pg_try_advisory_lock(hashtextextended('video-appliance migrate ' || %(table)s, 0))"
RECORD = """
CREATE TABLE IF NOT EXISTS {migration} (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())
"""
APPLIED = "SELECT name FROM {migration}"
NOTE = "INSERT INTO {migration} (name) VALUES (%(name)s)"


def migrate(dsn: str, *, table: str, wait: Callable[[float], object] | None = None) -> list[str]:
    """Bring the schema up to date; returns the names of the files that were applied, in order.

    Raises Unavailable when the server does not answer, refuses, or the platform's table is locked: then run it again.
    """
    with at_the_door(), _connected(dsn) as cursor:
        cursor.execute(SESSION)
        _lock(cursor, table, wait or threading.Event().wait)
        names = identifiers(table)
        cursor.execute(sql.SQL(RECORD).format(**names))
        cursor.execute(sql.SQL(APPLIED).format(**names))
        applied = {row[0] for row in cursor.fetchall()}
        todo = [file for file in sql_files("schema") if file.name not in applied]
        for file in todo:
            _apply(cursor, file, table)
        return [file.name for file in todo]


@contextlib.contextmanager
def _connected(dsn: str) -> Iterator[Any]:
    """A cursor in autocommit. The advisory lock ends with the connection, however that ends."""
    connection = psycopg2.connect(
        dsn, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="video-appliance migrate"
    )
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def _lock(cursor: Any, table: str, wait: Callable[[float], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        cursor.execute(LOCK, {"table": table})
        if cursor.fetchone()[0]:
            return
        if time.monotonic() > deadline:
            raise Unavailable("postgres", "Another host is migrating for too long.", hint="Look into pg_stat_activity.")
        wait(POLL_SECONDS)


def _apply(cursor: Any, file: Traversable, table: str) -> None:
    script = file.read_text(encoding="utf-8")
    names = identifiers(table)
    parameters = {"table": table, "name": file.name}
    together = not script.startswith(AUTOCOMMIT)
    if together:
        cursor.execute("BEGIN")
    for statement in [*split(script), NOTE]:
        cursor.execute(sql.SQL(statement).format(**names), parameters)
    if together:
        cursor.execute("COMMIT")
