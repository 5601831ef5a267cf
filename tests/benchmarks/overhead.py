"""`bench overhead`: what the appliance adds to the ffmpeg and ffprobe runs of a clip of one second.

From the ring to READY on an idle appliance, less the time of the same command lines, run bare and one by one on the
same source: what stays is messages, statements, storage, proof, and ffmpeg's cage.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from appliance.adapters.ffmpeg import run
from appliance.config import Config
from appliance.wiring.local import encode_file
from tests.benchmarks import stack
from tests.benchmarks.measure import Figure, interleaved, median, parser, rounded, tell
from tests.hosts import World, eventually, host
from tests.recordings import lecture

TARGET_SECONDS = 0.3


def bare(source: Path, directory: Path) -> float:
    """Seconds of every program that an encode of the file runs, each run here without a cage just before."""
    times: list[float] = []
    started = run._started

    def measured(command: list[str], place: Path, limits: run.Limits) -> AbstractContextManager[Any]:
        began = time.perf_counter()
        subprocess.run(command, cwd=place, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        times.append(time.perf_counter() - began)
        return started(command, place, limits)

    with mock.patch.object(run, "_started", measured):
        result = encode_file(Config(), source, directory / "bare", lambda *_: None)
    assert result.outcome == "READY", result.error_reason
    return sum(times)


def through(world: World, source: Path) -> float:
    """Seconds from the ring to READY."""
    return stack.processed(world, [world.upload(source)], patience=60)


def figures(world: World, directory: Path, rounds: int, size: str) -> Iterator[Figure]:
    source = lecture(directory / "clip.mp4", seconds=1, size=size)
    with host(world, directory / "host", **{**stack.REAL, "pool": {"encoders": 1}}) as running:
        eventually(lambda: running.events("ENCODER_BOOTED"))
        through(world, source)  # whatever happens only once has happened
        found = interleaved(
            {"appliance": lambda: through(world, source), "programs": lambda: bare(source, directory)}, rounds
        )
    added = median(found["appliance"]) - median(found["programs"])
    raw = {f"{name} s": rounded(times) for name, times in found.items()}
    yield Figure(f"overhead, {size}, seconds beside ffmpeg and ffprobe", added, TARGET_SECONDS, raw=raw)


def main() -> int:
    options = parser("overhead", __doc__, rounds=7).parse_args()
    with stack.stage() as (world, directory):
        rounds, size = (1, "320x180") if options.quick else (options.rounds, "1280x720")
        return tell(figures(world, directory, rounds, size), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
