"""`bench saturate`: eight videos through the appliance, against an ideal scheduler of the bare commands.

Ideal: the CPU seconds of one hand-written cascade for each video (one x264 thread a rung, as many at a time as there
are cores), divided by the cores, as if no core ever waited. Ours is from the first ring to the last READY. The bare
commands run half before and half after, so that a machine that becomes slower meanwhile meets both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance.config import Encode
from tests.benchmarks import cpu, encode, shapes, stack
from tests.benchmarks.measure import Figure, Missing, cores, interleaved, median, parser, rounded, tell
from tests.hosts import World, eventually, host

VIDEOS, TARGET = 8, 1.08
NAME = f"saturate, wall of {VIDEOS} videos against an ideal scheduler"


def ideal(jobs: list[shapes.Job], workers: int) -> float:
    """Seconds, if no core had ever waited."""

    def run(job: shapes.Job) -> float:
        job.out.mkdir(parents=True, exist_ok=True)
        return sum(cpu.run(command).cpu_seconds for command in shapes.cascade(job))

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(run, jobs)) / workers


def through(world: World, jobs: list[shapes.Job]) -> float:
    """Seconds from the first ring to the last READY."""
    videos = [world.upload(job.source) for job in jobs]
    return stack.processed(world, videos, patience=stack.PATIENCE_FACTOR * sum(job.seconds for job in jobs))


def figures(world: World, directory: Path, *, seconds: float, size: tuple[int, int], rounds: int) -> Iterator[Figure]:
    try:
        found = cores(2)
        sources = [encode.camera(directory, seconds, size, start=3 * number) for number in range(VIDEOS)]
    except Missing as error:
        yield Figure(NAME, None, TARGET, why=str(error))
        return
    out = directory / "out"
    jobs = [shapes.Job(source, out / source.stem, *size, encode.RATE, seconds, Encode(), 1) for source in sources]
    with host(world, directory / "host", **{**stack.REAL, "pool": {"encoders": len(found)}}) as running:
        eventually(lambda: len(running.events("ENCODER_BOOTED")) == len(found))
        ways = {
            "before": lambda: ideal(jobs[: VIDEOS // 2], len(found)),
            "ours": lambda: through(world, jobs),
            "after": lambda: ideal(jobs[VIDEOS // 2 :], len(found)),
        }
        times = interleaved(ways, rounds)
    bare = [before + after for before, after in zip(times["before"], times["after"], strict=True)]
    raw = {"ours s": rounded(times["ours"], 2), "ideal s": rounded(bare, 2), "cores": len(found)}
    yield Figure(NAME, median(times["ours"]) / median(bare), TARGET, raw=raw)


def main() -> int:
    made = parser("saturate", __doc__, rounds=3)
    made.add_argument("--seconds", type=float, default=30.0, help="length of each video")
    options = made.parse_args()
    seconds, size, rounds = (1.0, (320, 180), 1) if options.quick else (options.seconds, (1920, 1080), options.rounds)
    with stack.stage() as (world, directory):
        return tell(figures(world, directory, seconds=seconds, size=size, rounds=rounds), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
