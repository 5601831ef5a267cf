"""Stories of help: one video, several encoders, and whoever dies of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from appliance.local.aws import Aws
from tests.hosts import World, eventually, host
from tests.recordings import lecture

#: Six chunks of pictures and one of sound, each of which takes long enough to be killed in.
ENCODE: dict[str, Any] = {
    "ladder": [{"short_side": 180, "crf": 28, "maxrate": "400k"}, {"short_side": 90, "crf": 30, "maxrate": "200k"}],
    "preset": "slower",
    "chunk_seconds": 12,
}


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lecture(tmp_path_factory.mktemp("source") / "lecture.mp4", seconds=72, size="320x180", rate="15")


def assisted(world: World) -> dict[str, Any] | None:
    found = world.query("SELECT * FROM video_chunk WHERE state = 'RUNNING' AND assisted ORDER BY number LIMIT 1")
    return found[0] if found else None


def chunk(world: World, number: int) -> dict[str, Any]:
    return world.query("SELECT * FROM video_chunk WHERE number = %s", number)[0]


def pid(worker: str) -> int:
    return int(worker.rpartition(":")[2])


def programs(directory: Path) -> list[int]:
    """Processes that work in the directory of a host."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(directory):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_an_idle_encoder_helps_and_the_receipt_says_so(world: World, tmp_path: Path, recording: Path) -> None:
    with host(world, tmp_path / "host", encode=ENCODE, pool={"encoders": 2}):
        video_id = world.upload(recording)
        world.ring(video_id)
        eventually(lambda: world.row(video_id)["status"] == "READY")
    receipt = world.attempts(video_id)[-1]["receipt"]
    assert receipt["chunks_assisted"] >= 1
    assert receipt["chunks_encoded"] + receipt["chunks_assisted"] == receipt["chunks_total"] == 7
    assert receipt["video"]["cpu_seconds"] > receipt["cpu_seconds"] > receipt["overhead_cpu_seconds"] > 0
    assert receipt["video"]["rung_seconds"] > receipt["rung_seconds"]
    # one download for both
    assert receipt["video"]["bytes_in"] == receipt["source_bytes"] == recording.stat().st_size


def test_f51_f52_owner_and_assistant_may_each_die(world: World, tmp_path: Path, recording: Path) -> None:
    place = tmp_path / "host"
    with host(world, place, encode=ENCODE, pool={"encoders": 3}):
        video_id = world.upload(recording)
        world.ring(video_id)
        # the assistant: its chunk is free at once, without waiting for its lease
        taken = eventually(lambda: assisted(world), every=0.01)
        os.kill(pid(taken["worker"]), signal.SIGKILL)
        after = eventually(lambda: (found := chunk(world, taken["number"]))["token"] != taken["token"] and found)
        assert after["assistant_losses"] == 1
        # the owner: the assistant's chunk is finished under it or its successor, and not begun again
        taken = eventually(lambda: assisted(world), every=0.01)
        owner = world.attempts(video_id)[-1]
        os.kill(pid(owner["worker"]), signal.SIGKILL)
        row = eventually(lambda: (found := world.row(video_id))["status"] == "READY" and found)
        kept = chunk(world, taken["number"])
    assert (kept["token"], kept["state"], kept["epoch"]) == (taken["token"], "DONE", owner["epoch"])
    receipt = world.attempts(video_id)[-1]["receipt"]
    assert receipt["chunks_resumed"] >= 1
    counts = [receipt[f"chunks_{how}"] for how in ("encoded", "resumed", "assisted")]
    assert sum(counts) == receipt["chunks_total"] == 7
    assert (row["failure_count"], row["loss_count"]) == (0, 0)
    assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["abandoned", "ready"]
    assert programs(place) == []
