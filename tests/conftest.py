"""The stage of every test: a real PostgreSQL, a real Redis and moto's server, one set for each pytest process."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg2
import pytest
import redis

from appliance.local.aws import CREDENTIALS, Aws
from appliance.local.postgres import Postgres
from appliance.local.redis import Redis
from appliance.local.stack import Stack

#: Settings and accounts of the person who runs the tests, kept away from them.
FOREIGN = ("VIDEO_FAST_ACK", "VIDEO_APPLIANCE_CONFIG", "AWS_PROFILE", "AWS_SESSION_TOKEN", "NOTIFY_SOCKET")
TEMPLATE = "template_of_the_tests"
# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
# A shell without job control lets what it starts in the background ignore Ctrl-C, and every program of ours would
# inherit that; those are here to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The servers, not started: each starts when a test first asks for it."""
    stack = Stack()
    yield stack
    stack.stop()


@pytest.fixture
def postgres(stack: Stack) -> Iterator[Postgres]:
    """The server: `.dsn` of a maintenance database, `.stop()`, `.start()`, `.restart()`, `.kill()`."""
    stack.postgres.start()
    yield stack.postgres
    # A test may have stopped it; what its other fixtures clean up needs it.
    stack.postgres.start()


@pytest.fixture(scope="session")
def _template(stack: Stack) -> str:
    """A database with the schema, to be copied: a copy takes 30 ms, the migrations more."""
    from appliance.adapters.postgres.migrate import migrate  # tests without a database need no adapter

    stack.postgres.start()
    _administer(stack.postgres, f"CREATE DATABASE {TEMPLATE}")
    migrate(stack.postgres.database_dsn(TEMPLATE), table="video")
    return TEMPLATE


@pytest.fixture
def dsn(postgres: Postgres, _template: str) -> Iterator[str]:
    """A fresh database with the schema migrated, its table named `video`."""
    with _database(postgres, _template) as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(postgres: Postgres) -> Iterator[str]:
    """A fresh database without the schema."""
    with _database(postgres, "template1") as dsn:
        yield dsn


@pytest.fixture
def redis_server(stack: Stack) -> Redis:
    """The server, empty: `.url`, `.stop()`, `.start()`, `.restart()`, `.kill()`."""
    stack.redis.start()
    client = redis.Redis.from_url(stack.redis.url)
    client.flushall()
    client.close()
    return stack.redis


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """URL of an empty Redis."""
    return redis_server.url


@pytest.fixture
def aws(stack: Stack) -> Aws:
    """moto's server: `.endpoint_url`, `.region`, `.client(service)`; credentials for it are in the environment."""
    stack.aws.start()
    return stack.aws


@pytest.fixture
def bucket(aws: Aws) -> Iterator[str]:
    """A fresh bucket; what was put into it is deleted, because moto keeps it in memory."""
    name = aws.make_bucket(f"bucket-{uuid.uuid4().hex}")
    yield name
    aws.start()
    client = aws.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=name, Delete={"Objects": keys})


@pytest.fixture
def queue_url(aws: Aws) -> str:
    """A fresh queue."""
    return aws.make_queue(f"queue-{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The collection of real recordings that `CORPUS_DIR` names."""
    directory = os.environ.get("CORPUS_DIR")
    if not directory:
        pytest.skip("CORPUS_DIR is not set")
    return Path(directory).resolve(strict=True)


@contextlib.contextmanager
def _database(server: Postgres, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.database_dsn(name)
    server.start()
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: Postgres, statement: str) -> None:
    connection = psycopg2.connect(server.dsn)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()
