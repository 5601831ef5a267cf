"""A dead child's tokens, on real PostgreSQL and SQS."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
import structlog

from appliance.adapters.postgres.chunks import Chunks
from appliance.domain.errors import Unavailable
from appliance.supervisor.abandon import Abandoner
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.tokens import TokenFiles, Tokens, start_time
from tests.supervisor.rows import Rows, closing
from tests.supervisor.stage import until


class House:
    def __init__(self, rows: Rows, files: TokenFiles) -> None:
        self.metrics = Metrics()
        self.dependencies = Dependencies(time.monotonic, self.metrics.count)
        self.abandoner = Abandoner(
            leases=rows.leases,
            chunks=Chunks(rows.database, chunk_lease_seconds=60),
            doorbell=rows.doorbell,
            files=files,
            dependencies=self.dependencies,
            metrics=self.metrics,
        )


@pytest.fixture
def rows(dsn, redis_url, aws, queue_url) -> Iterator[Rows]:
    with closing(Rows(dsn, redis_url, aws, queue_url)) as rows:
        yield rows


@pytest.fixture
def files(tmp_path) -> TokenFiles:
    return TokenFiles(tmp_path)


@pytest.fixture
def house(rows, files) -> Iterator[House]:
    house = House(rows, files)
    yield house
    if house.abandoner._thread.is_alive():
        house.abandoner.stop(20)


def dead(*videos, slot: int = 0) -> Tokens:
    """Tokens of a process that has gone: nobody has this start time."""
    return Tokens(slot, os.getpid(), 1, frozenset(videos))


def test_f02_exactly_the_dead_childs_video_goes_back_and_is_rung(rows, files, house):
    lease, other = rows.held(), rows.held()
    tokens = dead(lease.token, uuid4())
    house.abandoner.start()
    files.keep(tokens)
    house.abandoner.add(tokens)
    until(lambda: house.metrics.value("rings", "abandoned"))
    until(lambda: list(files.left_over()) == [])
    row = rows.row(lease.video_id)
    assert (row["status"], row["loss_count"]) == ("UPLOADED", 1)
    assert rows.row(other.video_id)["status"] == "PROCESSING"
    assert rows.messages() == [lease.video_id]
    assert house.metrics.value("reclaims", "abandoned") == 1


def test_a_restarted_supervisor_abandons_what_the_files_say_once_the_old_process_is_gone(rows, files, house):
    lease = rows.held()
    old = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    files.keep(Tokens(0, old.pid, start_time(old.pid), frozenset({lease.token})))
    gone = rows.held()
    files.keep(dead(gone.token, slot=1))
    house.abandoner.start()
    until(lambda: rows.row(gone.video_id)["status"] == "UPLOADED")
    assert rows.row(lease.video_id)["status"] == "PROCESSING"
    old.kill()
    old.communicate()
    until(lambda: rows.row(lease.video_id)["status"] == "UPLOADED")
    until(lambda: list(files.left_over()) == [])


def test_f23_with_postgresql_down_it_waits_and_then_abandons(rows, files, house, postgres):
    lease = rows.held()
    rows.database.close()
    postgres.stop()
    house.abandoner.start()
    house.abandoner.add(dead(lease.token))
    until(lambda: house.dependencies.down_seconds()["postgres"] is not None)
    postgres.start()
    until(lambda: rows.row(lease.video_id)["status"] == "UPLOADED")


def test_what_cannot_be_abandoned_stays_on_disk_for_the_next_supervisor(files, rows, house):
    def down(_token):
        raise Unavailable("postgres", "PostgreSQL does not answer.")

    rows.leases.abandon = down
    tokens = dead(uuid4())
    files.keep(tokens)
    house.abandoner.start()
    house.abandoner.stop(20)
    assert list(files.left_over()) == [tokens]


def test_f10_a_ring_that_fails_is_left_to_the_sweep(rows, files, house):
    lease = rows.held()

    def down(_message):
        raise Unavailable("sqs", "SQS does not answer.")

    rows.doorbell.ring = down
    house.abandoner.start()
    house.abandoner.add(dead(lease.token))
    until(lambda: house.metrics.value("ring_errors"))
    assert [ring.video_id for ring in rows.sweeps.due_rings(10, 60.0)] == [lease.video_id]


def test_a_video_that_killed_too_many_encoders_is_not_rung(rows, files, house):
    lease = rows.held()
    rows.sql("UPDATE video SET loss_count = 4 WHERE id = %s", lease.video_id)
    house.abandoner.start()
    house.abandoner.add(dead(lease.token))
    until(lambda: rows.row(lease.video_id)["status"] == "FAILED")
    house.abandoner.stop(20)
    assert rows.messages() == []


def test_a_mistake_does_not_end_the_thread(rows, files, house):
    lease = rows.held()
    abandon = rows.leases.abandon
    broken = uuid4()

    def mistaken(token):
        return 1 / 0 if token == broken else abandon(token)

    rows.leases.abandon = mistaken
    with structlog.testing.capture_logs() as logged:
        house.abandoner.start()
        house.abandoner.add(dead(broken))
        until(lambda: [line for line in logged if line["event"] == "ABANDON_FAILED"])
        house.abandoner.add(dead(lease.token))
        until(lambda: rows.row(lease.video_id)["status"] == "UPLOADED")
