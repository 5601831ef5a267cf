"""What PostgreSQL must be and hold. Raises Unavailable where it does not answer; `check` names it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from posixpath import join
from typing import Any

from appliance.adapters.postgres.statements import sql_files
from appliance.cli.check.finding import OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.domain.video import Status
from appliance.streams.hls import MASTER
from appliance.supervisor.capacity import look
from appliance.wiring.encoder import worker

#: RDS still offers it, and every statement of ours is older than it. Tried with 18.
OLDEST_POSTGRES = 13
#: Times in rows are the database's; this much is between two clocks that somebody keeps.
SKEW_SECONDS = 5.0
#: Of each encoder and of the supervisor.
CONNECTIONS_PER_ENCODER, CONNECTIONS_PER_HOST = 2, 4
#: The largest that Linux gives (PID_MAX_LIMIT).
LONGEST_PID = 4_194_304
#: The columns that only `migrate` makes.
OURS = {"lease_token", "lease_epoch", "renewed_at", "run_after", "next_ring_at", "priority", "finished_token", "plan"}
MIGRATE = "Run `video-appliance migrate`."


def postgres(services: Services, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """The server, and how many connections it allows."""
    server = services.reports.server()
    skew = server["now_seconds"] - clock()
    if server["version_number"] < OLDEST_POSTGRES * 10_000:
        cure = f"Upgrade to {OLDEST_POSTGRES} or newer."
        yield Finding("postgres", PROBLEM, f"PostgreSQL {server['version']} is too old.", cure)
    if server["read_only"]:
        cure = "Point database.dsn at the primary (target_session_attrs=read-write)."
        yield Finding(
            "postgres", PROBLEM, "This PostgreSQL takes no writes: a standby, or read-only by its settings.", cure
        )
    if abs(skew) > SKEW_SECONDS:
        cure = "Keep the clock with chrony or systemd-timesyncd; AWS refuses requests that are five minutes off."
        sentence = f"This host's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} PostgreSQL's."
        yield Finding("clock", WARNING, sentence, cure)
    yield from _connections(services.config, server["max_connections"])
    yield Finding("postgres", OK, f"version {server['version']}")


def _connections(config: Config, most: int) -> Iterator[Finding]:
    encoders = config.pool.encoders if isinstance(config.pool.encoders, int) else look().cores
    needed = CONNECTIONS_PER_ENCODER * encoders + CONNECTIONS_PER_HOST
    if needed > most:
        cure = "Raise max_connections, put a pooler between, or lower pool.encoders."
        yield Finding("postgres", PROBLEM, f"This host needs {needed} connections, and the server allows {most}.", cure)


def tables(services: Services) -> Iterator[Finding]:
    """Those that are there, what this role may do with them, and what the platform's own columns can hold."""
    found = services.reports.tables()
    if absent := _absent(found):
        yield Finding("schema", PROBLEM, f"There is no table {', '.join(absent)}.", MIGRATE)
    there = [table for table in found if table["there"]]
    lacks = [(", ".join(words), table["name"]) for table in there if (words := table["missing_privileges"])]
    if lacks:
        sentence = "; ".join(f"{words} on {name}" for words, name in lacks)
        cure = "; ".join(f"GRANT {words} ON {name} TO the appliance's role" for words, name in lacks)
        yield Finding("schema", PROBLEM, f"This role may not {sentence}.", f"{cure}.")
    video = found[0]
    if not video["there"]:
        return
    if lacking := OURS - set(video["columns"]):
        sentence = f"The table {video['name']} has no column {', '.join(sorted(lacking))}."
        yield Finding("schema", PROBLEM, sentence, "Run `video-appliance migrate`; somebody dropped what it had made.")
    yield from _columns(services, video["name"])


def _absent(tables: list[dict[str, Any]]) -> list[str]:
    return [table["name"] for table in tables if not table["there"]]


def _columns(services: Services, table: str) -> Iterator[Finding]:
    """A platform's own columns, which `migrate` does not touch."""
    columns = services.reports.columns()
    for name, needed in longest(services.config).items():
        characters = columns.get(name, {}).get("characters")
        if characters is not None and characters < needed:
            sentence = f"{table}.{name} holds {characters} characters, and this host writes up to {needed}."
            cure = f"Make {table}.{name} a varchar({max(64, needed)}), which rewrites nothing."
            yield Finding("schema", PROBLEM, sentence, cure)
    for name in ("leased_until", "created_at", "updated_at"):
        if columns.get(name, {}).get("type") == "timestamp without time zone":
            sentence = f"{table}.{name} has no time zone: it is another moment for a session in another zone."
            cure = f"Make {table}.{name} a timestamptz, USING {name} AT TIME ZONE the platform's."
            yield Finding("schema", PROBLEM if name == "leased_until" else WARNING, sentence, cure)


def longest(config: Config) -> dict[str, int]:
    """Column of the platform → the longest text that this host writes into it."""
    slots = config.pool.encoders if isinstance(config.pool.encoders, int) else look().cores
    attempt = f"{10**6}-{uuid.UUID(int=0)}"
    return {
        "status": max(map(len, Status)),
        "leased_by": len(worker(slots, LONGEST_PID).name),
        "hls_path": len(join(config.storage.prefix, str(10**12), attempt, MASTER)),
    }


def schema(services: Services) -> Iterator[Finding]:
    """What `migrate` did, and a newer release's."""
    if _absent(services.reports.tables()):
        return
    known, applied = {file.name for file in sql_files("schema")}, services.reports.applied()
    if pending := sorted(known - applied):
        yield Finding("schema", PROBLEM, f"Not migrated yet: {', '.join(pending)}.", MIGRATE)
    if newer := sorted(applied - known):
        sentence = f"The schema is newer than this release, which does not know {', '.join(newer)}."
        yield Finding("schema", WARNING, sentence, "Update this host: git pull && sudo ./install.sh")


def indexes(services: Services) -> Iterator[Finding]:
    """Those that every look at the tables is made through, and those that are in the way of renewals."""
    if _absent(services.reports.tables()):
        return
    for name in services.reports.lease_indexes():
        cure = f"Drop {name} (concurrently); nothing of ours reads it."
        yield Finding("schema", WARNING, f"The index {name} holds leased_until: every renewal writes to it.", cure)
    table, applied = services.config.database.table, services.reports.applied()
    for index in services.reports.indexes():
        name, file = index["name"], index["file"]
        if file not in applied:
            continue
        if not index["there"]:
            forget = f"Strike {file} out of {table}_migration (DELETE … WHERE name = '{file}')"
            cure = f"{forget} and run `video-appliance migrate`, which makes it again."
            yield Finding("schema", WARNING, f"There is no index {name}: each look walks the whole table.", cure)
        elif not index["valid"]:
            sentence = f"The index {name} is invalid: it is written to and never read."
            yield Finding("schema", WARNING, sentence, f"REINDEX INDEX CONCURRENTLY {name}.")
