from __future__ import annotations

import pytest
import structlog

from appliance.domain.errors import Unavailable
from appliance.supervisor.dependencies import Dependencies, Seen
from appliance.supervisor.metrics import Metrics


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def dependencies(clock, metrics) -> Dependencies:
    return Dependencies(clock, metrics.count)


def fail(dependencies: Dependencies, observer: str = "reconcile") -> None:
    with pytest.raises(Unavailable), dependencies.watched(observer, "postgres"):
        raise Unavailable("postgres", "PostgreSQL does not answer.", hint="Is it up?")


def test_one_line_per_outage_and_one_at_its_end_however_many_calls_fail(dependencies, metrics, clock):
    with structlog.testing.capture_logs() as logged:
        for _ in range(5):
            fail(dependencies)
        clock.now += 12
        for _ in range(2):
            with dependencies.watched("reconcile", "postgres"):
                pass
    assert [(line["event"], line["dependency"]) for line in logged] == [
        ("DEPENDENCY_DOWN", "postgres"),
        ("DEPENDENCY_BACK", "postgres"),
    ]
    assert (logged[0]["hint"], logged[1]["seconds"]) == ("Is it up?", 12)
    assert metrics.value("dependency_errors", "postgres") == 5


def test_it_is_up_when_everybody_is_answered(dependencies, clock):
    fail(dependencies)
    clock.now += 3
    dependencies.seen_by_child("slot 1", {"postgres": False, "s3": True})
    assert dependencies.down_seconds()["postgres"] == 3
    dependencies.answered("reconcile", "postgres")
    assert dependencies.down_seconds()["postgres"] == 0
    dependencies.seen_by_child("slot 1", {"postgres": True})
    assert set(dependencies.down_seconds().values()) == {None}


def test_a_dead_child_has_no_opinion(dependencies):
    dependencies.seen_by_child("slot 1", {"redis": False})
    dependencies.forget("slot 1")
    assert dependencies.down_seconds()["redis"] is None


def test_people_read_what_is_wrong_since_when_and_who_says_so(dependencies, clock):
    assert dependencies.seen()["postgres"] == Seen(None, None)
    dependencies.answered("reconcile", "postgres")
    clock.now += 5
    assert dependencies.seen()["postgres"] == Seen(up=True, since_seconds=5.0)
    fail(dependencies)
    dependencies.seen_by_child("slot 1", {"postgres": False, "s3": False})
    clock.now += 7
    seen = dependencies.seen()
    assert seen["postgres"] == Seen(False, 7.0, "PostgreSQL does not answer.", "Is it up?", ("reconcile", "slot 1"))
    assert (seen["s3"].error, seen["s3"].up) == ("No answer from s3; the log says why.", False)
    dependencies.answered("reconcile", "postgres")
    assert dependencies.seen()["postgres"].up is False
    dependencies.forget("slot 1")
    clock.now += 2
    assert dependencies.seen()["postgres"] == dependencies.seen()["s3"] == Seen(up=True, since_seconds=2.0)
