from __future__ import annotations

import re
from pathlib import Path

from tests.hosts import World
from tests.shell import appliance

WHO = r"video_id={id} tenant_id=1 prev_leased_by=worker-a prev_leased_until=\S+ \S+"


def dead(world: World) -> int:
    """A video whose owner's lease ended an hour ago."""
    rows = world.query(
        "INSERT INTO video (status, file_key, tenant_id, leased_by, lease_token, lease_epoch, leased_until, renewed_at)"
        " VALUES ('PROCESSING', 'a', 1, 'worker-a', gen_random_uuid(), 1, now() - interval '1 hour',"
        " now() - interval '1 hour') RETURNING id"
    )
    return int(rows[0]["id"])


def test_dry_run_prints_what_would_be_reclaimed_and_changes_nothing(world: World, settings: Path) -> None:
    video_id = dead(world)
    before = world.row(video_id)
    ran = appliance("reconcile", "--dry-run", "--config", settings)
    reclaim, done = ran.out.splitlines()
    who = WHO.format(id=video_id)
    assert re.fullmatch(rf"DRY-RUN reclaim \| {who} lease_expired=True no_heartbeat=(True|False) force=True", reclaim)
    assert done == "Done: reclaimed=1 enqueued=0 (dry-run)"
    assert (ran.status, world.row(video_id)) == (0, before)


def test_a_pass_prints_a_line_for_each_row_and_the_sum(world: World, settings: Path) -> None:
    video_id = dead(world)
    ran = appliance("reconcile", "--config", settings)
    reclaimed, enqueued, done = ran.out.splitlines()
    assert re.fullmatch(rf"RECLAIMED \| {WHO.format(id=video_id)}", reclaimed)
    assert enqueued == f"RE_ENQUEUED | video_id={video_id}"
    assert done == "Done: reclaimed=1 enqueued=1"
    assert (ran.status, world.row(video_id)["status"]) == (0, "UPLOADED")
    again = appliance("reconcile", "--config", settings, "--json").last
    assert (again["reclaimed"], again["enqueued"], again["dry_run"]) == (0, 0, False)


def test_a_silent_redis_is_said_and_reclaims_nobody_who_renews(world: World, settings: Path) -> None:
    video_id = dead(world)
    world.query("UPDATE video SET leased_until = now() + interval '1 hour', renewed_at = now()")
    port = world.redis_url.rsplit(":", 1)[1].split("/")[0]
    settings.write_text(settings.read_text().replace(f":{port}/0", ":9/0"))
    ran = appliance("reconcile", "--config", settings)
    assert ran.status == 69
    assert ran.out == "Done: reclaimed=0 enqueued=0\n"
    assert "Redis" in ran.err
    assert world.row(video_id)["status"] == "PROCESSING"
