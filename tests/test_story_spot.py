"""A story of a spot notice: what its host holds goes on elsewhere, from the last finished chunk."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from appliance.local.aws import Aws
from tests.hosts import Host, World, eventually, host
from tests.metadata import SPOT, SPOT_NOTICE, instance
from tests.recordings import lecture
from tests.supervisor.test_fleet import make_group
from tests.test_story_assist import ENCODE, programs

SLOTS = 2
DONE = "SELECT number, token FROM video_chunk WHERE state = 'DONE'"
RUNNING = "SELECT number, token FROM video_chunk WHERE state = 'RUNNING'"


def counted(running: Host, name: str) -> float:
    """One series of /metrics: the host goes on telling until it is gone."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=20) as answer:
        found = re.search(rf"^video_appliance_{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def tokens(world: World, statement: str) -> dict[int, str]:
    return {row["number"]: str(row["token"]) for row in world.query(statement)}


def frozen(directory: Path) -> int:
    """Every ffmpeg of the host stands still, so that no chunk ends in time: the worst moment, wherever they were."""
    number = 0
    for pid in programs(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            number += 1
    return number


def protected(aws: Aws, group: str) -> dict[str, bool]:
    client = aws.client("autoscaling")
    (found,) = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
    return {it["InstanceId"]: it["ProtectedFromScaleIn"] for it in found["Instances"]}


def test_f39_a_spot_notice_at_the_worst_moment_costs_at_most_the_chunks_in_flight(
    dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str, tmp_path: Path
) -> None:
    world = World(dsn, redis_url, aws, bucket, queue_url)
    recording = lecture(tmp_path / "lecture.mp4", seconds=36, size="320x180", rate="15")
    group = make_group(aws)
    mine, other = protected(aws, group)
    changes: dict[str, Any] = {"encode": ENCODE, "pool": {"encoders": SLOTS, "drain_seconds": 1}}
    with (
        instance() as ec2,
        host(
            world, tmp_path / "spot", fleet={"notices": True, "metadata_url": ec2.url, "group": group}, **changes
        ) as leaving,
    ):
        ec2.says["instance-id"] = mine
        video_id = world.upload(recording)
        world.ring(video_id)
        eventually(lambda: tokens(world, DONE) and len(programs(tmp_path / "spot")) >= SLOTS, every=0.01)
        assert frozen(tmp_path / "spot") >= 1
        eventually(lambda: protected(aws, group) == {mine: True, other: False})
        noticed = time.monotonic()
        ec2.says[SPOT] = SPOT_NOTICE
        with host(world, tmp_path / "staying", **changes) as staying:
            eventually(lambda: leaving.events("HANDING_OVER"))
            before = tokens(world, DONE)
            eventually(lambda: world.attempts(video_id)[0]["ended_at"], seconds=120)
            released = time.monotonic() - noticed
            eventually(lambda: counted(leaving, 'slots{state="draining"}') == 0)
            lost = counted(leaving, 'chunks_total{outcome="released"}')
            assert counted(leaving, "spot_notice") == 1
            assert counted(leaving, 'rings_total{reason="release"}') == 1
            row = eventually(lambda: (found := world.row(video_id))["status"] == "READY" and found)
            assert leaving.events("ENCODER_ENDED")[-1]["reason"] == "drained"
            assert staying.events("SQS_JOB_COMPLETED")
    first, last = world.attempts(video_id)
    assert (first["outcome"], last["outcome"]) == ("released", "ready")
    assert (row["failure_count"], row["loss_count"]) == (0, 0)
    after = tokens(world, DONE)
    assert before.items() <= after.items(), "what was finished is not done again"
    begun_again = sum(it["attempts"] - 1 for it in world.query("SELECT attempts FROM video_chunk"))
    assert 1 <= begun_again <= lost <= SLOTS
    figures = f"released after {released:.1f} s, {begun_again} of {len(after)} chunks begun again, {len(before)} kept"
    print(figures)  # noqa: T201 - pytest -s shows it
