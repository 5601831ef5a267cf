"""Stories of death: a video changes hands, and nothing that was finished is done again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from appliance.local.aws import Aws
from tests.hosts import Host, World, eventually, host
from tests.recordings import lecture

SMALL_LADDER = [{"short_side": 180, "crf": 28, "maxrate": "400k"}, {"short_side": 90, "crf": 30, "maxrate": "200k"}]
#: Three minutes in six chunks and one for the sound; the shorter recording in as many shorter ones.
ENCODE: dict[str, Any] = {"ladder": SMALL_LADDER, "chunk_seconds": 30}
SHORTER: dict[str, Any] = {"ladder": SMALL_LADDER, "chunk_seconds": 12}


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@pytest.fixture(scope="module")
def three_minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lecture(tmp_path_factory.mktemp("source") / "lecture.mp4", seconds=180, size="320x180", rate="15")


@pytest.fixture(scope="module")
def one_minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lecture(tmp_path_factory.mktemp("source") / "lecture.mp4", seconds=72, size="320x180", rate="15")


@pytest.fixture
def alone(world: World, tmp_path: Path) -> Iterator[Host]:
    with host(world, tmp_path / "host", encode=ENCODE) as running:
        yield running


def done_chunks(world: World, video_id: int) -> int:
    rows = world.query("SELECT count(*) AS done FROM video_chunk WHERE video_id = %s AND state = 'DONE'", video_id)
    return int(rows[0]["done"])


def owner_pid(running: Host, epoch: int) -> int:
    """The encoder that logged the claim of this epoch."""
    claims = eventually(lambda: [e for e in running.events("VIDEO_CLAIMED") if e.get("lease_epoch") == epoch])
    return int(claims[0]["pid"])


def test_f02_a_killed_encoder_is_succeeded_within_seconds_and_its_chunks_are_kept(
    world: World, alone: Host, three_minutes: Path
) -> None:
    video_id = world.upload(three_minutes)
    world.ring(video_id)
    eventually(lambda: done_chunks(world, video_id) >= 3)
    os.kill(owner_pid(alone, 1), signal.SIGKILL)
    row = eventually(lambda: (found := world.row(video_id))["status"] == "READY" and found)
    receipt = world.attempts(video_id)[-1]["receipt"]
    assert receipt["chunks_resumed"] >= 3
    shares = [receipt[f"chunks_{how}"] for how in ("resumed", "encoded", "assisted")]
    assert sum(shares) == receipt["chunks_total"] == 7
    assert row["loss_count"] == row["failure_count"] == 0
    # Not reclaimed: its supervisor gave it back at once. How long the next owner then takes, `bench chaos` measures.
    assert world.attempts(video_id)[0]["outcome"] == "abandoned"


def test_f37_a_drained_host_hands_over_its_finished_chunks(world: World, tmp_path: Path, one_minute: Path) -> None:
    with host(world, tmp_path / "leaving", encode=SHORTER, pool={"encoders": 1, "drain_seconds": 1}) as leaving:
        video_id = world.upload(one_minute)
        world.ring(video_id)
        eventually(lambda: done_chunks(world, video_id) >= 2)
        assert leaving.stop() == 0
    row = world.row(video_id)
    assert (row["status"], row["failure_count"], row["loss_count"]) == ("UPLOADED", 0, 0)
    kept = done_chunks(world, video_id)
    with host(world, tmp_path / "staying", encode=SHORTER):
        eventually(lambda: world.row(video_id)["status"] == "READY")
    receipt = world.attempts(video_id)[-1]["receipt"]
    assert receipt["chunks_resumed"] == kept >= 2


def test_f13_an_owner_paused_past_its_lease_changes_nothing_when_it_wakes(
    world: World, tmp_path: Path, one_minute: Path
) -> None:
    """The pause is of the whole host: supervisor, fork server, encoders and ffmpegs, as a virtual machine's is."""
    with host(world, tmp_path / "paused", encode=SHORTER, pool={"encoders": 1}) as paused:
        video_id = world.upload(one_minute)
        world.ring(video_id)
        eventually(lambda: done_chunks(world, video_id) >= 2)
        family = _stopped(paused.process.pid)
        try:
            with host(world, tmp_path / "other", encode=SHORTER, pool={"encoders": 1}):
                row = eventually(lambda: (found := world.row(video_id))["status"] == "READY" and found)
                prefix = f"hls/{video_id}/"
                published = world.objects(prefix)
        finally:
            for pid in reversed(family):  # whoever would reap a child still stands
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: paused.events("LEASE_LOST"))
        time.sleep(1)  # a zombie that meant to write would have written by now
        assert world.row(video_id) == row
        assert [attempt["outcome"] for attempt in world.attempts(video_id)][-1] == "ready"
    assert len(world.attempts(video_id)) == 2
    after = world.objects(prefix)
    assert {key: after[key] for key in published} == published
    strays = after.keys() - published.keys()
    named = b"".join(data for key, data in published.items() if key.endswith(".m3u8"))
    assert not [key for key in strays if key.split("/")[-2].encode() in named]


def _stopped(pid: int) -> list[int]:
    """Stop the process and everything below it, the fork server's children included; a program may just have ended.

    Parents first: one that stands still makes no child that nobody looks for.
    """
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGSTOP)
            found.append(one)
            queue += _children(one)
    return found


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found
