"""What the outside services must be and grant. Raises Unavailable where one does not answer; `check` names it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.postgres.statements import sql_files
from appliance.cli.check.finding import OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.domain.errors import SourceRejected
from appliance.domain.fleet import BACKLOG
from appliance.supervisor.capacity import look

#: RDS still offers it, and every statement of ours is older than it. Tried with 18.
OLDEST_POSTGRES = 13
#: Times in rows are the database's; this much is between two clocks that somebody keeps.
SKEW_SECONDS = 5.0
#: Of each encoder and of the supervisor.
CONNECTIONS_PER_ENCODER, CONNECTIONS_PER_HOST = 2, 4
#: A queue that gives up on a message before it was delivered this often makes dead letters of duplicates.
LEAST_RECEIVES = 5
#: The columns that only `migrate` makes.
OURS = {"lease_token", "lease_epoch", "renewed_at", "run_after", "next_ring_at", "priority", "finished_token", "plan"}


def postgres(services: Services, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
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
    yield from _schema(services)
    yield Finding("postgres", OK, f"version {server['version']}")


def _connections(config: Config, most: int) -> Iterator[Finding]:
    encoders = config.pool.encoders if isinstance(config.pool.encoders, int) else look().cores
    needed = CONNECTIONS_PER_ENCODER * encoders + CONNECTIONS_PER_HOST
    if needed > most:
        cure = "Raise max_connections, put a pooler in session mode between, or lower pool.encoders."
        yield Finding("postgres", PROBLEM, f"This host needs {needed} connections, and the server allows {most}.", cure)


def _schema(services: Services) -> Iterator[Finding]:
    tables = services.reports.tables()
    if missing := [table["name"] for table in tables if not table["there"]]:
        yield Finding("schema", PROBLEM, f"There is no table {', '.join(missing)}.", "Run `video-appliance migrate`.")
        return
    if lacking := OURS - set(tables[0]["columns"]):
        sentence = f"The table {tables[0]['name']} has no column {', '.join(sorted(lacking))}."
        yield Finding("schema", PROBLEM, sentence, "Run `video-appliance migrate`; somebody dropped what it had made.")
    for table in tables:
        if table["missing_privileges"]:
            words = ", ".join(table["missing_privileges"])
            cure = f"GRANT {words} ON {table['name']} TO the appliance's role."
            yield Finding("schema", PROBLEM, f"This role may not {words} on {table['name']}.", cure)
            return
    pending = [file.name for file in sql_files("schema") if file.name not in services.reports.applied()]
    if pending:
        yield Finding("schema", PROBLEM, f"Not migrated yet: {', '.join(pending)}.", "Run `video-appliance migrate`.")
    for index in services.reports.lease_indexes():
        cure = f"Drop {index} (concurrently); nothing of ours reads it."
        yield Finding("schema", WARNING, f"The index {index} holds leased_until: every renewal writes to it.", cure)


def redis(services: Services) -> Iterator[Finding]:
    info = services.telemetry.info()
    if info.get("role") == "slave":
        yield Finding(
            "redis", PROBLEM, "This Redis is a replica and takes no writes.", "Point redis.url at the primary."
        )
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    if most and used > 0.9 * most:
        cure = "Give it more memory; meanwhile heartbeats may be missing, which costs nobody a lease."
        yield Finding("redis", WARNING, f"It is nearly full: {used} of {most} bytes.", cure)
    yield Finding("redis", OK, f"version {info.get('redis_version', 'unknown')}")


def sqs(services: Services) -> Iterator[Finding]:
    queue, settings = services.config.queue, services.doorbell.settings()
    if settings.get("FifoQueue") == "true":
        cure = "Make a standard queue; the order is the database's (priority), and duplicates do no harm."
        yield Finding("sqs", PROBLEM, "queue.url is a FIFO queue, which the appliance cannot ring.", cure)
    receives = _receives(settings)
    if not queue.fast_ack and receives is not None and receives < LEAST_RECEIVES:
        cure = f"Set maxReceiveCount to {LEAST_RECEIVES} or more, or queue.fast_ack to true."
        sentence = (
            f"The queue gives a message up after {receives} deliveries; a video that is encoded elsewhere costs one."
        )
        yield Finding("sqs", WARNING, sentence, cure)
    services.doorbell.dead_letter_settings()
    yield Finding("sqs", OK, f"{settings.get('ApproximateNumberOfMessages', '?')} messages wait")


def _receives(settings: dict[str, str]) -> int | None:
    """maxReceiveCount of the redrive policy, None without one."""
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(settings["RedrivePolicy"])["maxReceiveCount"])
    return None


def streams(services: Services) -> Iterator[Finding]:
    """Puts an object where streams go, reads it, and deletes it."""
    storage, name = services.streams, f"{services.config.storage.prefix}/.check-{uuid.uuid4()}"
    storage.put_bytes(name, b"check", content_type="text/plain", cache_control="no-store")
    whole = storage.read(name).data == b"check"
    storage.delete([name])
    if not whole:
        yield Finding("s3", PROBLEM, f"{storage.bucket} gave other bytes back than were put.", "Is it really S3?")
    yield Finding("s3", OK, f"{storage.bucket}: put, read and deleted {services.config.storage.prefix}/.check-…")


def sources(services: Services) -> Iterator[Finding]:
    """Asks for an upload that nobody made: "not found" is the right answer."""
    with suppress(SourceRejected):
        services.sources.head(f".check-{uuid.uuid4()}")
    yield Finding("s3 sources", OK, f"{services.sources.bucket} answers")


def cloudwatch(services: Services) -> Iterator[Finding]:
    if not services.config.cloudwatch.enabled:
        return
    points = CloudWatch(services.aws("cloudwatch"), services.config.cloudwatch.namespace).get(BACKLOG)[BACKLOG]
    yield Finding("cloudwatch", OK, f"{len(points)} points of {BACKLOG} in the last 15 minutes")
