"""`bench resume`: what a kill -9 of the encoder at half and at nine tenths of a lecture costs, in CPU seconds.

One encoder, one lecture: undisturbed, and killed once when its progress has come so far; the supervisor takes the video
back and the next encoder goes on. All CPU seconds of the host count, from boot to exit. Beside it stands what the same
kill would cost who begins again at zero.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import redis

from tests.benchmarks import cpu, stack
from tests.benchmarks.measure import Figure, interleaved, median, parser, rounded, tell
from tests.hosts import Host, World, eventually, host

TARGET = 1.08
KILLS = (50, 90)


@dataclass(frozen=True)
class Run:
    """CPU seconds in all, and those spent when the kill came."""

    cpu_seconds: float
    lost_seconds: float = 0.0


def measure(world: World, directory: Path, source: Path, minutes: float, percent: float | None) -> Run:
    report, lost = directory / "report", 0.0
    patience = stack.PATIENCE_FACTOR * 60 * minutes
    world = replace(world, queue_url=world.aws.make_queue(os.urandom(8).hex()))
    changes = {**stack.REAL, "pool": {"encoders": 1}}
    with host(world, directory / "host", inside=cpu.metered([], report), **changes) as running:
        eventually(lambda: running.events("ENCODER_BOOTED"))
        video_id = world.upload(source)
        world.ring(video_id)
        if percent is not None:
            lost = kill(world, running, video_id, percent, seconds=patience)
        stack.until_ready(world, [video_id], patience=patience)
    return Run(cpu.read(report).cpu_seconds, lost)


def kill(world: World, running: Host, video_id: int, percent: float, *, seconds: float) -> float:
    """Kill the owner once so much is done; what the host had spent by then."""
    client = redis.Redis.from_url(world.redis_url)
    key = f"tenant:1:video:{video_id}:progress"
    eventually(lambda: json.loads(client.get(key) or '{"percent": 0}')["percent"] >= percent, seconds=seconds)
    spent = cpu.living(running.process.pid)
    os.kill(int(world.row(video_id)["leased_by"].rpartition(":")[2]), signal.SIGKILL)
    return spent


def figures(world: World, directory: Path, *, minutes: float, rounds: int) -> Iterator[Figure]:
    source = stack.lecture(directory, minutes)
    run = partial(measure, world, directory, source, minutes)
    found = interleaved({str(percent): partial(run, percent) for percent in (None, *KILLS)}, rounds)
    whole = median(one.cpu_seconds for one in found["None"])
    for percent in KILLS:
        runs = found[str(percent)]
        raw = {
            "undisturbed s": rounded([one.cpu_seconds for one in found["None"]], 1),
            "killed s": rounded([one.cpu_seconds for one in runs], 1),
            "from zero": round((median(one.lost_seconds for one in runs) + whole) / whole, 2),
        }
        ratio = median(one.cpu_seconds for one in runs) / whole
        yield Figure(f"resume, CPU with kill -9 at {percent} % against none", ratio, TARGET, raw=raw)


def main() -> int:
    made = parser("resume", __doc__, rounds=1)
    made.add_argument("--minutes", type=float, default=10.0, help="length of the lecture")
    options = made.parse_args()
    with stack.stage() as (world, directory):
        minutes, rounds = (0.2, 1) if options.quick else (options.minutes, options.rounds)
        return tell(figures(world, directory, minutes=minutes, rounds=rounds), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
