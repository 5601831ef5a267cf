from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import structlog

from appliance.adapters import aws as factory
from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.sweeps import Sweeps, Tick
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.domain.retry import Decision
from appliance.supervisor.board import Board
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.reconcile import Rules
from appliance.supervisor.tick import Settings, Ticker, publishes, quiet_seconds
from tests.supervisor.rows import TTL, Rows, closing
from tests.supervisor.stage import until

SETTINGS = Settings(host="host", tick_seconds=15.0, renew_seconds=20.0)
LONG = 10_000.0
FIGURES = (
    *("BacklogCount", "video_visible", "video_inflight", "video_desired_raw"),
    *("video_busy_slots", "video_failures", "video_oldest_seconds"),
)
#: Longer than any test, so that only `due` makes the next tick due.
TICK_SECONDS = 1e5


def tick(since_last: float | None, server_up: float = LONG) -> SimpleNamespace:
    return SimpleNamespace(won=True, since_last_seconds=since_last, server_up_seconds=server_up)


@pytest.mark.parametrize(
    ("now", "answering", "seconds"),
    [
        (tick(15.0), LONG, 0.0),
        (tick(34.0), LONG, 0.0),
        # nobody ticked for long: everybody's database was away
        (tick(36.0), LONG, 20.0),
        (tick(None), LONG, 20.0),
        # the server is young
        (tick(15.0, server_up=5.0), LONG, 15.0),
        # it has been answering us for a moment only
        (tick(15.0), 0.0, 20.0),
        (tick(15.0), 12.0, 8.0),
        (tick(15.0, server_up=5.0), 12.0, 15.0),
    ],
)
def test_f24_after_an_outage_holders_renew_before_anybody_is_reclaimed(now, answering, seconds):
    assert quiet_seconds(now, answering, SETTINGS) == seconds


def test_one_tick_in_each_minute_publishes_whoever_wins_it():
    ticks = [tick(15.0, server_up=seconds) for seconds in range(600, 900, 15)]
    assert [publishes(each, 60.0) for each in ticks] == [True, False, False, False] * 5
    assert publishes(tick(None), 60.0)
    assert publishes(tick(61.0, server_up=659.0), 60.0)


class OldSweeps(Sweeps):
    """On a PostgreSQL that has been up for long: the tests' own has just started."""

    def win_tick(self, host: str, tick_seconds: float) -> Tick:
        return replace(super().win_tick(host, tick_seconds), server_up_seconds=LONG)


class House:
    """A ticker on the real servers, which have been answering it for long unless it is `new`."""

    def __init__(self, rows: Rows, *, new: bool = False, **changes: Any) -> None:
        self.board = Board(0.0, 0.0)
        self.metrics = Metrics()
        self.dependencies = Dependencies(time.monotonic, self.metrics.count)
        machines: dict[str, Any] = {
            "sweeps": OldSweeps(rows.database, max_losses=5),
            "reports": Reports(rows.database),
            "telemetry": rows.telemetry,
            "doorbell": rows.doorbell,
            "cloudwatch": None,
        }
        self.ticker = Ticker(
            replace(SETTINGS, tick_seconds=TICK_SECONDS),
            Rules(heartbeat_ttl_seconds=TTL, first_ring_seconds=60.0, batch=100),
            **{**machines, **changes},
            board=self.board,
            dependencies=self.dependencies,
            metrics=self.metrics,
            slots=lambda: 2,
        )
        if not new:
            self.ticker._answering_since = time.monotonic() - LONG


@pytest.fixture
def rows(dsn, redis_url, aws, queue_url) -> Iterator[Rows]:
    with closing(Rows(dsn, redis_url, aws, queue_url)) as rows:
        due(rows)
        yield rows


def due(rows: Rows) -> None:
    """A tick is `TICK_SECONDS` long and this much ago: the next is due, and there was no outage."""
    rows.sql("UPDATE reconcile_tick SET ticked_at = now() - make_interval(secs => %s)", TICK_SECONDS)


def test_the_winner_reconciles_the_loser_only_learns(rows):
    lease = rows.held()
    rows.expire(lease.video_id)
    winner, loser = House(rows), House(rows)
    assert [winner.ticker.tick(), loser.ticker.tick()] == ["done", "not_our_tick"]
    assert winner.metrics.value("reclaims", "lease") == winner.metrics.value("rings", "reclaim") == 1
    assert loser.metrics.value("reclaims", "lease") == 0
    assert loser.board.backlog == {"UPLOADED": 1, "PROCESSING": 0}
    assert loser.board.learnt_at is not None
    assert loser.board.recent == ()  # for those who look: the onlooker asks
    assert loser.board.reconciled_at is not None


def test_f24_the_first_tick_only_stamps_and_the_next_reclaims(rows):
    lease = rows.held()
    rows.expire(lease.video_id)
    house = House(rows, new=True)
    assert house.ticker.tick() == "waiting"
    due(rows)
    assert house.ticker.tick() == "waiting"
    assert rows.row(lease.video_id)["status"] == "PROCESSING"
    # a renewal interval later
    house.ticker._answering_since -= 31.0
    house.ticker._quiet_until -= 31.0
    due(rows)
    assert house.ticker.tick() == "done"
    assert rows.row(lease.video_id)["status"] == "UPLOADED"


def test_a_supervisor_whose_sqs_is_down_takes_no_tick(rows):
    class Silent:
        def depth(self):
            raise Unavailable("sqs", "SQS does not answer.")

    house = House(rows, doorbell=Silent())
    assert house.ticker.tick() == "failed"
    assert house.dependencies.down_seconds()["sqs"] is not None
    assert house.board.backlog == {"UPLOADED": 0, "PROCESSING": 0}
    assert House(rows).ticker.tick() == "done"


def test_f23_postgresql_down_is_one_line_and_the_thread_lives(rows, postgres):
    house = House(rows)
    postgres.stop()
    with structlog.testing.capture_logs() as logged:
        assert [house.ticker.tick(), house.ticker.tick()] == ["failed", "failed"]
        postgres.start()
        # it may have been away from the holders as well: they renew first
        assert house.ticker.tick() == "waiting"
    assert [line["event"] for line in logged if line["event"].startswith("DEPENDENCY")] == [
        "DEPENDENCY_DOWN",
        "DEPENDENCY_BACK",
    ]
    assert house.metrics.value("reconcile_runs", "failed") == 2


def test_f22_redis_down_is_one_line_and_leases_are_still_reclaimed(rows, redis_server):
    house = House(rows)
    redis_server.stop()
    try:
        with structlog.testing.capture_logs() as logged:
            assert house.ticker.tick() == "done"
            due(rows)
            assert house.ticker.tick() == "done"
    finally:
        redis_server.start()
    due(rows)
    house.ticker.tick()
    assert [line["dependency"] for line in logged if line["event"] == "DEPENDENCY_DOWN"] == ["redis"]
    assert house.dependencies.down_seconds()["redis"] is None


def test_the_winner_publishes_what_there_is_to_do(rows, aws):
    client = factory.client("cloudwatch", region=aws.region, endpoint_url=aws.endpoint_url)
    cloudwatch = CloudWatch(client, f"Test/{uuid4().hex}")
    for _ in range(4):
        rows.waiting()
    rows.held()
    rows.leases.fail(rows.held(), Decision("corrupt", "It cannot be read.", None), receipt=None)
    house = House(rows, cloudwatch=cloudwatch)
    house.ticker.tick()
    found = {name: [value for _, value in points] for name, points in cloudwatch.get(*FIGURES).items()}
    (oldest,) = found.pop("video_oldest_seconds")
    assert 0 < oldest < 600
    # five videos on two slots a host
    assert found == {
        "BacklogCount": [5.0],
        "video_visible": [0.0],
        "video_inflight": [0.0],
        "video_desired_raw": [3.0],
        "video_busy_slots": [1.0],
        "video_failures": [1.0],
    }


def test_f30_nothing_is_published_when_the_backlog_could_not_be_learnt(rows):
    published = []

    class Broken(Reports):
        def backlog(self):
            raise Unavailable("postgres", "PostgreSQL does not answer.")

    recording = SimpleNamespace(put=published.append)
    house = House(rows, reports=Broken(rows.database), cloudwatch=recording)
    assert house.ticker.tick() == "failed"
    assert published == []


class Steered:
    """A director that only remembers."""

    def __init__(self, error: Unavailable | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self._error = error

    def steer(self, backlog: int, slots_per_host: int) -> None:
        self.asked.append((backlog, slots_per_host))
        if self._error:
            raise self._error


def test_the_winner_steers_the_fleet_by_what_it_learnt_and_the_loser_does_not(rows):
    for _ in range(3):
        rows.waiting()
    director, idle = Steered(), Steered()
    assert [House(rows, director=each).ticker.tick() for each in (director, idle)] == ["done", "not_our_tick"]
    assert (director.asked, idle.asked) == ([(3, 2)], [])


def test_f30_nothing_is_scaled_when_the_backlog_could_not_be_learnt_or_holders_are_to_renew_first(rows):
    class Broken(Reports):
        def backlog(self):
            raise Unavailable("postgres", "PostgreSQL does not answer.")

    director = Steered()
    assert House(rows, reports=Broken(rows.database), director=director).ticker.tick() == "failed"
    assert House(rows, new=True, director=director).ticker.tick() == "waiting"
    assert director.asked == []


def test_an_auto_scaling_that_refuses_does_not_stop_the_tick(rows):
    house = House(rows, director=Steered(Unavailable("autoscaling", "There is no Auto Scaling group nobody.")))
    assert house.ticker.tick() == "done"
    assert house.dependencies.down_seconds()["autoscaling"] is not None


def test_f30_cloudwatch_down_does_not_stop_the_tick(rows):
    def put(_figures):
        raise Unavailable("cloudwatch", "CloudWatch does not answer.")

    house = House(rows, cloudwatch=SimpleNamespace(put=put))
    assert house.ticker.tick() == "done"
    assert house.metrics.value("dependency_errors", "cloudwatch") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), ApplianceError("The schema is older than this release.")])
def test_a_mistake_is_logged_and_the_next_tick_comes(rows, error):
    class Broken(Reports):
        def backlog(self):
            raise error

    house = House(rows, reports=Broken(rows.database))
    with structlog.testing.capture_logs() as logged:
        assert house.ticker.tick() == "failed"
    assert [line["event"] for line in logged] == ["RECONCILE_FAILED"]


def test_the_thread_ticks_until_it_is_stopped(rows):
    house = House(rows)
    house.ticker.start()
    until(lambda: house.metrics.value("reconcile_runs", "done"))
    house.ticker.stop(20)
    assert not house.ticker._thread.is_alive()
