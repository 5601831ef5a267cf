"""`bench assist`: one long lecture, by one encoder and by two, each pinned to one core.

The second encoder is another host's, idle in its long poll when the video arrives. Other load on the machine falsifies
both figures: the medians of `--rounds` are compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.cli.bar import Bar
from tests.benchmarks import fleet
from tests.hosts import World, eventually

#: Half would be perfect; fetching, probing, proving and the last chunk are nobody's to share.
TARGET = 0.63


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench assist", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the lecture")
    parser.add_argument("--rounds", type=int, default=1, help="each way is measured so often")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        parser.error("two cores are needed")
    walls: dict[int, list[float]] = {1: [], 2: []}
    receipts: list[dict[str, Any]] = []
    with fleet.stage() as (world, directory), Bar(quiet=options.json) as bar:
        bar.show(0, "render")
        source = fleet.lecture(directory, options.minutes)
        for round_ in range(options.rounds):
            for encoders in (1, 2):
                bar.show(100 * (2 * round_ + encoders - 1) / (2 * options.rounds), f"{encoders} encoders")
                seconds, receipt = measure(world, directory, source, cores[:encoders], options.minutes)
                walls[encoders].append(seconds)
                receipts += [receipt] if encoders == 2 else []
    one, two = statistics.median(walls[1]), statistics.median(walls[2])
    figures = {
        "name": "assist",
        "ratio": round(two / one, 3),
        "target": TARGET,
        "ok": two / one <= TARGET and all(receipt["chunks_assisted"] for receipt in receipts),
        "minutes": options.minutes,
        "wall_one_seconds": [round(wall, 1) for wall in walls[1]],
        "wall_two_seconds": [round(wall, 1) for wall in walls[2]],
        "chunks": receipts[0]["chunks_total"],
        "chunks_assisted": [receipt["chunks_assisted"] for receipt in receipts],
        "load": os.getloadavg()[0],
    }
    return fleet.tell(figures, as_json=options.json)


def measure(
    world: World, directory: Path, source: Path, cores: list[int], minutes: float
) -> tuple[float, dict[str, Any]]:
    """Seconds from the ring to READY, and the receipt."""
    # A queue of its own: what stopped hosts still polled when they left might take this ring, as SQS may.
    world = replace(world, queue_url=world.aws.make_queue(uuid.uuid4().hex))
    place = directory / "hosts"
    try:
        with fleet.hosts(world, place, cores) as running:
            for host in running:
                eventually(lambda host=host: host.events("ENCODER_BOOTED"))
            video_id = world.upload(source)
            begun = time.monotonic()
            world.ring(video_id)
            row = eventually(
                lambda: (found := world.row(video_id))["status"] in ("READY", "FAILED") and found,
                seconds=fleet.PATIENCE_FACTOR * 60 * minutes,
            )
            seconds = time.monotonic() - begun
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if row["status"] != "READY":
        raise SystemExit(f"the video ended FAILED: {row['error_reason']}")
    return seconds, world.attempts(video_id)[-1]["receipt"]


if __name__ == "__main__":
    sys.exit(main())
