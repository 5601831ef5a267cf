"""The simulated day, tiny: its rules are the real ones, and what it counts it can also fail to find."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psycopg2
import pytest

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.domain.video import Worker
from tests.benchmarks import fleet
from tests.benchmarks.day import oracle
from tests.benchmarks.day.arrivals import DAY_SECONDS, Lecture
from tests.benchmarks.day.rules import Direct, Old
from tests.benchmarks.day.state import LEASE, PLAN_SECONDS, PUBLISH_SECONDS, RECONCILE, Outcome, Setting, Video
from tests.benchmarks.day.world import World

SMALL = fleet.Fleetful.of(80, seed=3)
PERSISTENT = 1200.0


def lecture(arrival: float, media_seconds: float = 600.0, priority: int = 0) -> Lecture:
    """One minute of recording takes half a minute."""
    return Lecture(arrival, media_seconds, 2.0, priority, flaky=False)


def calm(lectures: list[Lecture], **changes: Any) -> Outcome:
    """One host of one slot that nothing happens to."""
    quiet = Setting(slots=1, minimum=1, maximum=1, spot_share_an_hour=0.0, storm_share=0.0)
    return World(lectures, replace(quiet, **changes), lambda _: None, seed=1).run()


def test_rows_are_claimed_in_the_order_of_claim_next(dsn: str) -> None:
    chance = random.Random(5)
    videos = [
        Video(number, lecture(chance.choice([60.0, 120.0, 180.0]), priority=chance.randrange(2)))
        for number in range(1, 30)
    ]
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        for video in chance.sample(videos, len(videos)):
            cursor.execute(
                "INSERT INTO video (id, file_key, status, priority, run_after, created_at, updated_at)"
                " VALUES (%s, 'k', 'UPLOADED', %s, now() - make_interval(secs => 1000 - %s), now(), now())",
                (video.number, video.lecture.priority, video.due),
            )
    connection.close()
    leases = Leases(Database(dsn, application_name="test"), lease_seconds=180, max_losses=5)
    claimed = [leases.claim_next(Worker("h", "w"), uuid.uuid4()) for _ in videos]
    assert [lease.video_id for lease in claimed if lease] == [v.number for v in sorted(videos, key=Video.order)]


def test_one_slot_takes_one_video_after_the_other_and_waits_are_from_due_to_claim() -> None:
    whole = PLAN_SECONDS + 300.0 + PUBLISH_SECONDS
    found = calm([lecture(1000.0), lecture(1010.0), lecture(1020.0, priority=1)])
    assert found.claims == pytest.approx([1000.0, 1000.0 + whole, 1000.0 + 2 * whole])
    assert found.waits == pytest.approx([0.0, whole - 20.0, 2 * whole - 10.0])
    assert found.host_seconds == DAY_SECONDS


def test_a_helper_takes_chunks_off_an_owner_until_none_is_left() -> None:
    alone, helped = (
        calm([lecture(1000.0), lecture(1000.0 + PLAN_SECONDS + 160.0)], minimum=hosts, maximum=hosts, help=hosts > 1)
        for hosts in (1, 2)
    )
    assert alone.waits[1] == pytest.approx(140.0 + PUBLISH_SECONDS)
    assert helped.waits[1] < 35.0


@pytest.mark.parametrize(("away", "until"), [(1.0, LEASE.heartbeat_ttl_seconds), (DAY_SECONDS, LEASE.lease_seconds)])
def test_who_dies_without_a_word_is_found_by_heartbeat_or_without_redis_by_lease(away: float, until: float) -> None:
    storm = {"storm_at": 5000.0, "storm_share": 1.0, "unannounced": 1.0, "boot_seconds": 1.0}
    found = calm([lecture(4900.0)], redis_away=(0.0, away), **storm)
    assert len(found.recoveries) == 1
    assert until - LEASE.renew_seconds <= found.recoveries[0] <= until + RECONCILE.tick_seconds


def test_a_fleet_that_follows_the_work_kills_nothing_and_the_old_rule_does() -> None:
    ours = SMALL.day(Direct(fleet.SLOTS, PERSISTENT))
    old = SMALL.day(Old(fleet.SLOTS, PERSISTENT), protect=False)
    assert (ours.killed, old.killed > 0) == (0, True)
    assert fleet.percentile(ours.waits, 0.95) < 240.0 < fleet.percentile(old.waits, 0.95)
    assert ours.lost_hosts > 0
    assert len(ours.waits) >= len(SMALL.lectures)


def test_without_protection_the_same_rule_would_kill() -> None:
    assert SMALL.day(Direct(fleet.SLOTS, PERSISTENT), protect=False).killed > 0


def test_a_seed_is_a_day() -> None:
    first, second = (SMALL.day(Direct(fleet.SLOTS, PERSISTENT)) for _ in range(2))
    assert first == second
    assert fleet.Fleetful.of(80, seed=4).lectures != SMALL.lectures


def test_the_oracle_boots_just_in_time_and_stays_over_a_short_pause() -> None:
    whole = PLAN_SECONDS + 300.0 + PUBLISH_SECONDS
    one_slot = Setting(slots=1, boot_seconds=120.0)
    assert oracle.host_seconds([lecture(1000.0)], one_slot) == pytest.approx(120.0 + whole)
    together = [lecture(1000.0), lecture(1000.0)]
    assert oracle.host_seconds(together, one_slot) == pytest.approx(2 * (120.0 + whole))
    assert oracle.host_seconds(together, replace(one_slot, slots=2)) == pytest.approx(120.0 + whole)
    soon = [lecture(1000.0), lecture(1000.0 + whole + 100.0)]
    assert oracle.host_seconds(soon, one_slot) == pytest.approx(120.0 + 2 * whole + 100.0)
    late = [lecture(1000.0), lecture(1000.0 + whole + 130.0)]
    assert oracle.host_seconds(late, one_slot) == pytest.approx(2 * (120.0 + whole))


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    rows = {"a": (10, 90), "b": (11, 95), "c": (12, 40), "d": (12, 50), "e": (9, 200)}
    found = fleet.frontier([(name, {"hours": hours, "p95": wait}) for name, (hours, wait) in rows.items()])
    assert [name for name, _ in found] == ["e", "a", "c"]


def test_the_bench_prints_a_line_for_each_target_and_draws_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = tmp_path / "day.svg"
    monkeypatch.setattr("sys.argv", ["fleet", "--quick", "--json", "--picture", str(drawing)])
    fleet.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 8
    assert all({"name", "ratio", "target", "ok"} <= line.keys() for line in lines)
    assert lines[-1]["points"]
    words = "".join(ET.fromstring(drawing.read_text()).itertext())  # noqa: S314 - our own
    assert "direct mode" in words
    assert "encodes killed" in words
