"""`bench latency`: one long lecture by one encoder, and by one on every core, each pinned to a core of its own.

The other encoders are other hosts', idle in their long polls when the video arrives. The figure is the gain in time for
each core used: 1 would be perfect, but fetching, probing, proving and the last chunk are nobody's to share.
"""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import stack
from tests.benchmarks.measure import Figure, Missing, cores, interleaved, median, parser, rounded, tell
from tests.hosts import World, eventually

TARGET = 0.8
NAME = "latency, gain for each core"


def measure(
    world: World, directory: Path, source: Path, minutes: float, pinned: list[int]
) -> tuple[float, dict[str, Any]]:
    """Seconds from the ring to READY, and the receipt."""
    # A queue of its own: what stopped hosts still polled when they left might take this ring, as SQS may.
    world = replace(world, queue_url=world.aws.make_queue(uuid.uuid4().hex))
    place = directory / "hosts"
    try:
        with stack.hosts(world, place, pinned) as running:
            for host in running:
                eventually(lambda host=host: host.events("ENCODER_BOOTED"))
            video_id = world.upload(source)
            seconds = stack.processed(world, [video_id], patience=stack.PATIENCE_FACTOR * 60 * minutes)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return seconds, world.attempts(video_id)[-1]["receipt"]


def figures(world: World, directory: Path, *, minutes: float, rounds: int) -> Iterator[Figure]:
    try:
        found = cores(2)
    except Missing as error:
        yield Figure(NAME, None, TARGET, at_least=True, why=str(error))
        return
    run = partial(measure, world, directory, stack.lecture(directory, minutes), minutes)
    runs = interleaved({"one": partial(run, found[:1]), "all": partial(run, found)}, rounds)
    walls = {way: [seconds for seconds, _ in done] for way, done in runs.items()}
    receipts = [receipt for _, receipt in runs["all"]]
    raw: dict[str, Any] = {f"{way} s": rounded(seconds, 1) for way, seconds in walls.items()}
    raw |= {"cores": len(found), "minutes": minutes, "chunks": receipts[0]["chunks_total"]}
    raw["assisted"] = [receipt["chunks_assisted"] for receipt in receipts]
    yield Figure(NAME, median(walls["one"]) / median(walls["all"]) / len(found), TARGET, at_least=True, raw=raw)


def main() -> int:
    made = parser("latency", __doc__, rounds=1)
    made.add_argument("--minutes", type=float, default=20.0, help="length of the lecture")
    options = made.parse_args()
    with stack.stage() as (world, directory):
        minutes, rounds = (0.3, 1) if options.quick else (options.minutes, options.rounds)
        return tell(figures(world, directory, minutes=minutes, rounds=rounds), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
