"""The room's database, and its adapters on a clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.adapters.postgres.chunks import Chunks
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.local.postgres import Postgres
from appliance.local.stack import Stack
from tests.adapters.postgres.stage import (
    CHUNK_LEASE_SECONDS,
    CLOCK,
    CLOCK_PATH,
    MAX_LOSSES,
    Admin,
    Clock,
    Proxy,
    make_leases,
)


@pytest.fixture(scope="session")
def _room(stack: Stack, _template: str) -> str:
    name = "room_of_postgres"
    admin = Admin(stack.postgres.dsn)
    admin(f"CREATE DATABASE {name} TEMPLATE {_template}")
    admin.connection.close()
    return stack.postgres.database_dsn(name)


@pytest.fixture
def dsn(postgres: Postgres, _room: str) -> str:
    """One database for the room, emptied before each test: a hundred copies of the template would take minutes."""
    admin = Admin(_room)
    for table in ("video", "video_attempt", "video_plan"):
        admin(f"DELETE FROM {table}")
    admin("UPDATE reconcile_tick SET ticked_at = NULL, host = NULL")
    admin("DROP SCHEMA IF EXISTS clock CASCADE")
    admin.connection.close()
    return _room


@pytest.fixture
def admin(dsn: str) -> Iterator[Admin]:
    admin = Admin(dsn)
    yield admin
    admin.connection.close()


@pytest.fixture
def clock(admin: Admin) -> Clock:
    admin(CLOCK)
    return Clock(admin)


@pytest.fixture
def open_database(dsn: str) -> Iterator[Callable[..., Database]]:
    """Opens further Databases, by default on real time, and closes them."""
    opened: list[Database] = []

    def connect(**settings: Any) -> Database:
        database = Database(settings.pop("dsn", dsn), application_name="test", **settings)
        opened.append(database)
        return database

    yield connect
    for database in opened:
        database.close()


@pytest.fixture
def database(clock: Clock, open_database: Callable[..., Database]) -> Database:
    """On the test's own clock."""
    return open_database(search_path=CLOCK_PATH)


@pytest.fixture
def leases(database: Database) -> Leases:
    return make_leases(database)


@pytest.fixture
def chunks(database: Database) -> Chunks:
    return Chunks(database, chunk_lease_seconds=CHUNK_LEASE_SECONDS)


@pytest.fixture
def sweeps(database: Database) -> Sweeps:
    return Sweeps(database, max_losses=MAX_LOSSES)


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    proxy = Proxy(dsn)
    yield proxy
    proxy.close()
