"""Stories of a storage that accepts and then says nothing, or says no."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.local.aws import Aws
from tests.gate import Gate
from tests.hosts import World, eventually, host
from tests.recordings import lecture
from tests.test_story_takeover import SMALL_LADDER

ENCODE: dict[str, Any] = {"ladder": SMALL_LADDER, "chunk_seconds": 6, "sprite_seconds": 0}
SILENT_SECONDS = 3


class Held:
    """Holds back every upload of a segment until it is let go; everything else passes."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.go = threading.Event()

    def __call__(self, method: str, path: str) -> None:
        if method == "PUT" and "/media/" in path:
            self.first.set()
            self.go.wait()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


@pytest.fixture
def gate(aws: Aws, held: Held) -> Iterator[Gate]:
    with Gate(aws, held) as gate:
        yield gate


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lecture(tmp_path_factory.mktemp("source") / "lecture.mp4", seconds=18, size="160x90", rate="10")


def settings(gate: Gate, **pool: Any) -> dict[str, Any]:
    aws = {"endpoint_url": gate.endpoint_url, "read_timeout_seconds": 60}
    return {"aws": aws, "encode": ENCODE, "pool": {"encoders": 1, **pool}}


def done_chunks(world: World) -> list[dict[str, Any]]:
    return world.query("SELECT * FROM video_chunk WHERE state = 'DONE' ORDER BY number")


def test_f27_f34_f21_an_upload_that_hangs_costs_nothing_and_can_be_cancelled(
    world: World, gate: Gate, held: Held, recording: Path, tmp_path: Path
) -> None:
    """For longer than a silent encoder may live: it is not silent, its lease is renewed, and a cancel is heard."""
    with host(world, tmp_path / "host", **settings(gate, silent_seconds=SILENT_SECONDS)) as running:
        video_id = world.upload(recording)
        assert held.first.wait(60)
        world.query("UPDATE video SET updated_at = now() WHERE id = %s", video_id)  # that it hangs since now
        later = f"renewed_at > updated_at + make_interval(secs => {SILENT_SECONDS + 1})"
        eventually(lambda: world.query(f"SELECT id FROM video WHERE {later}"))
        assert not running.events("ENCODER_KILLED")
        world.query("UPDATE video SET cancel_requested_at = now() WHERE id = %s", video_id)
        eventually(lambda: world.row(video_id)["status"] == "FAILED")
        assert not held.go.is_set()
        held.go.set()
    assert world.row(video_id)["error_code"] == "cancelled"
    assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["cancelled"]


@pytest.mark.parametrize("in_time", [True, False], ids=["in-time", "too-late"])
def test_f37_sigterm_in_mid_upload_loses_nothing_and_charges_nothing(
    world: World, gate: Gate, held: Held, recording: Path, tmp_path: Path, *, in_time: bool
) -> None:
    """An upload that ends within the drain's budget counts; one that does not is left, and encoded again."""
    with host(world, tmp_path / "leaving", **settings(gate, drain_seconds=30 if in_time else 1)) as leaving:
        video_id = world.upload(recording)
        assert held.first.wait(60)
        leaving.process.send_signal(signal.SIGTERM)
        eventually(lambda: leaving.events("DRAINING"))
        if in_time:
            held.go.set()
        assert leaving.stop() == 0
    first = done_chunks(world)
    row, attempts = world.row(video_id), world.attempts(video_id)
    assert (row["failure_count"], row["loss_count"]) == (0, 0)
    assert [attempt["outcome"] for attempt in attempts] == ["ready" if row["status"] == "READY" else "released"]
    assert bool(first) == in_time
    held.go.set()
    with host(world, tmp_path / "staying", **settings(gate)):
        world.ring(video_id)
        eventually(lambda: world.row(video_id)["status"] == "READY")
    kept = [chunk for chunk in done_chunks(world) if chunk in first]
    assert kept == first


def test_f27_the_status_page_says_since_when_s3_is_down_and_that_it_is_back(
    world: World, gate: Gate, recording: Path, tmp_path: Path
) -> None:
    """Though the video was given back after the first answer that was none, and nobody here asks S3 for anything."""
    gate.rule = lambda _, path: (503, "SlowDown") if path.startswith(f"/{world.bucket}") else None
    with host(world, tmp_path / "host", **settings(gate)) as running:

        def s3() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/status.json", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)["dependencies"]["s3"]
            return found

        video_id = world.upload(recording)
        eventually(lambda: [attempt["outcome"] for attempt in world.attempts(video_id)] == ["released"])
        down = eventually(lambda: (seen := s3())["up"] is False and seen)
        assert (down["seen_by"], down["since_seconds"] >= 0) == (["slot 0"], True)
        gate.rule = lambda *_: None
        eventually(lambda: s3()["up"])
        assert world.row(video_id)["status"] == "UPLOADED"
