"""The outside machines as the configuration names them. Nothing here connects; each thread makes its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from appliance.adapters import aws
from appliance.adapters.postgres.chunks import Chunks
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.redis import Telemetry
from appliance.adapters.s3 import S3, Ended
from appliance.adapters.sqs import Doorbell
from appliance.config import Config
from appliance.domain.secrets import secrets_of

#: What holds a secret in an environment that boto3 or libpq reads.
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "PGPASSWORD")

#: What an answer of SQS may take beyond the long poll.
POLL_MARGIN_SECONDS = 5.0


def database(config: Config, name: str) -> Database:
    """`name` stands in pg_stat_activity. Raises ConfigError when the DSN's file cannot be read."""
    settings = config.database
    return Database(
        settings.read_dsn(),
        application_name=f"video-appliance {name}",
        table=settings.table,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        statement_timeout_seconds=settings.statement_timeout_seconds,
    )


def leases(config: Config, connection: Database, wait: Callable[[float], object] | None = None) -> Leases:
    """`wait` is what the claim does between two tries for a locked row."""
    return Leases(
        connection,
        lease_seconds=config.lease.lease_seconds,
        max_losses=config.lease.max_losses,
        locked_wait_seconds=config.lease.locked_wait_seconds,
        wait=wait,
    )


def chunks(config: Config, connection: Database) -> Chunks:
    return Chunks(connection, chunk_lease_seconds=config.lease.chunk_lease_seconds)


def doorbell(config: Config, *, polls: bool = True) -> Doorbell:
    """One try a call: its users have their own patience, and a poll that hangs must end soon after its time.

    Without `polls` it is for whoever asks and rings, but never receives.
    """
    poll_seconds = config.queue.wait_seconds + POLL_MARGIN_SECONDS
    client = aws.client(
        "sqs",
        region=config.aws.region,
        endpoint_url=config.aws.endpoint_url,
        connect_timeout_seconds=config.aws.connect_timeout_seconds,
        read_timeout_seconds=poll_seconds if polls else config.aws.read_timeout_seconds,
        tries=1,
    )
    return Doorbell(client, config.queue.url, dead_letter_url=config.queue.dead_letter_url)


def telemetry(config: Config, on_error: Callable[[], None] = lambda: None) -> Telemetry:
    return Telemetry(
        config.redis.read_url(),
        timeout_seconds=config.redis.timeout_seconds,
        heartbeat_ttl_seconds=config.lease.heartbeat_ttl_seconds,
        progress_ttl_seconds=config.redis.progress_ttl_seconds,
        on_error=on_error,
    )


def storage(config: Config) -> S3:
    return S3(aws_client(config, "s3"), config.storage.bucket)


def storages(config: Config, ended: Ended = lambda *_: None, *, tries: int = aws.TRIES) -> tuple[S3, S3]:
    """Where streams go and where sources lie, through one client: each would cost 12 MiB."""
    client, storage = aws_client(config, "s3", tries=tries), config.storage
    return S3(client, storage.bucket, ended), S3(client, storage.source_bucket or storage.bucket, ended)


def secrets(config: Config) -> set[str]:
    """Every secret that this process knows, so that no line of its log holds one. Raises ConfigError."""
    held = {os.environ.get(name, "") for name in SECRET_VARIABLES}
    return held | secrets_of(config.database.read_dsn()) | secrets_of(config.redis.read_url())


def aws_client(config: Config, service: str, *, tries: int = aws.TRIES) -> Any:
    return aws.client(
        service,
        region=config.aws.region,
        endpoint_url=config.aws.endpoint_url,
        connect_timeout_seconds=config.aws.connect_timeout_seconds,
        read_timeout_seconds=config.aws.read_timeout_seconds,
        tries=tries,
    )
