"""What the measurements of helping share: a stack of their own, a long lecture, and hosts that keep to a core."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance import config as configuration
from appliance.adapters.ffmpeg import tools
from appliance.adapters.postgres.migrate import migrate
from appliance.cli import terminal
from appliance.cli.demo.sample import render
from appliance.local.aws import CREDENTIALS
from appliance.local.stack import Stack
from tests.hosts import Host, World, eventually, host

#: A real host's rhythm, not that of the stories.
REAL: dict[str, dict[str, Any]] = {
    "database": {"connect_timeout_seconds": 5, "statement_timeout_seconds": 10},
    "lease": asdict(configuration.Lease()),
    "queue": {"wait_seconds": 20, "poll_seconds": 20},
    "reconcile": {"tick_seconds": 15, "first_ring_seconds": 60},
}
#: A measurement that takes this many times the recording's length will not end.
PATIENCE_FACTOR = 20.0
#: How often a measurement asks if it is over, at most, and how many times at most.
QUESTION_SECONDS, QUESTIONS = 0.5, 2000


@contextmanager
def stage() -> Iterator[tuple[World, Path]]:
    """Servers and a scratch directory of our own; a SIGTERM ends them as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.update({**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"})
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Stack() as stack:
        migrate(stack.postgres.dsn, table="video")
        aws = stack.aws
        yield (
            World(stack.postgres.dsn, stack.redis.url, aws, aws.make_bucket("bench"), aws.make_queue("bench")),
            Path(directory),
        )


def lecture(directory: Path, minutes: float) -> Path:
    """The demo's lecture (1280×720), over and over without encoding it again."""
    ffmpeg = tools.find().ffmpeg
    short, long = render(ffmpeg, directory / "short.mp4"), directory / "lecture.mp4"
    command = [ffmpeg, "-v", "error", "-y", "-stream_loop", "-1", "-i", str(short), "-t", str(60 * minutes)]
    subprocess.run([*command, "-c", "copy", str(long)], check=True)
    return long


@contextmanager
def hosts(world: World, directory: Path, cores: list[int], **changes: dict[str, Any]) -> Iterator[list[Host]]:
    """One host with one encoder on each of these cores; all of its processes stay there."""
    with ExitStack() as running:
        found = []
        for number, core in enumerate(cores):
            place = directory / f"host{number}"
            one = running.enter_context(host(world, place, **{**REAL, "pool": {"encoders": 1}, **changes}))
            os.sched_setaffinity(one.process.pid, {core})  # before it has made any thread or child
            found.append(one)
        yield found


def until_ended(world: World, videos: list[int], *, patience: float) -> None:
    """Until each is READY or FAILED. Asked seldom: every question is a connection, and a new process of a server."""
    ask = "SELECT count(*) AS n FROM video WHERE status IN ('READY', 'FAILED') AND id = ANY (%s)"
    every = max(QUESTION_SECONDS, patience / QUESTIONS)
    eventually(lambda: world.query(ask, videos)[0]["n"] == len(videos), seconds=patience, every=every)


def until_ready(world: World, videos: list[int], *, patience: float) -> float:
    """Unix time at which the last of the videos was READY, the rows say. Raises AssertionError where one FAILED."""
    until_ended(world, videos, patience=patience)
    failed = [row["error_reason"] for row in map(world.row, videos) if row["status"] == "FAILED"]
    assert not failed, failed
    last = "SELECT extract(epoch FROM max(ended_at))::float AS at FROM video_attempt WHERE video_id = ANY (%s)"
    return float(world.query(last, videos)[0]["at"])


def processed(world: World, videos: list[int], *, patience: float) -> float:
    """Seconds from the first ring, which is now, to the last READY."""
    began = time.time()
    for video_id in videos:
        world.ring(video_id)
    return until_ready(world, videos, patience=patience) - began


def tell(figures: dict[str, Any], *, as_json: bool) -> int:
    """Print one measurement; returns the exit status."""
    if as_json:
        terminal.emit(figures)
    else:
        terminal.facts(figures["name"], {name: value for name, value in figures.items() if name != "name"})
    return 0 if figures["ok"] else 1
