"""`bench spot`: a spot notice while each slot of a host has just begun a chunk of a minute that outlasts the notice.

Two hosts with the defaults of real ones: the one with the notice hands over, the other goes on. How long the first
holds anything, how many chunks are begun again, and the CPU seconds that were spent on them in vain.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.domain.notice import SPOT_SECONDS
from tests.benchmarks import cpu, stack
from tests.benchmarks.measure import Figure, parser, tell
from tests.hosts import Host, World, eventually, host
from tests.metadata import SPOT, SPOT_NOTICE, instance

SLOTS = 2
#: EC2's two minutes.
TARGET_SECONDS = 120.0
RUNNING = "SELECT number, token::text, worker FROM video_chunk WHERE state = 'RUNNING'"
DONE = "SELECT number, token::text, attempts, objects FROM video_chunk WHERE state = 'DONE'"


def main() -> int:
    made = parser("spot", __doc__, rounds=1)
    made.add_argument("--minutes", type=float, default=2.0, help="length of the lecture")
    made.add_argument("--preset", default="veryslow", help="of x264: slow enough for a chunk to outlast the notice")
    options = made.parse_args()
    encode = {"preset": options.preset, "chunk_seconds": 6 if options.quick else 60}
    budget = 1.0 if options.quick else SPOT_SECONDS
    with stack.stage() as (world, directory):
        minutes = 0.2 if options.quick else options.minutes
        found = figures(world, directory, minutes, encode, pool={"encoders": SLOTS, "drain_seconds": budget})
        return tell(found, as_json=options.json)


def figures(
    world: World, directory: Path, minutes: float, encode: dict[str, Any], **changes: dict[str, Any]
) -> Iterator[Figure]:
    source, patience = stack.lecture(directory, minutes), stack.PATIENCE_FACTOR * 60 * minutes
    changes |= {**stack.REAL, "encode": encode}
    with (
        instance() as ec2,
        host(world, directory / "spot", fleet={"notices": True, "metadata_url": ec2.url}, **changes) as leaving,
    ):
        eventually(lambda: leaving.events("ENCODER_BOOTED"))
        video_id = world.upload(source)
        world.ring(video_id)
        eventually(lambda: _busy(world) and world.query(DONE), seconds=patience)
        noticed = time.monotonic()
        ec2.says[SPOT] = SPOT_NOTICE
        with host(world, directory / "staying", **changes):
            spent = _spent_until_released(world, leaving, patience)
            held = time.monotonic() - noticed
            stack.until_ended(world, [video_id], patience=patience)
    row = world.row(video_id)
    assert (row["status"], row["failure_count"], row["loss_count"]) == ("READY", 0, 0), row
    done = {chunk["number"]: chunk for chunk in world.query(DONE)}
    again = {number: seconds for (number, token), seconds in spent.items() if done[number]["token"] != token}
    whole = sum(done[number]["objects"]["cost"]["cpu_seconds"] for number in again)
    raw = {"chunks": len(done), "resumed": world.attempts(video_id)[-1]["receipt"]["chunks_resumed"]}
    yield Figure("spot, seconds from the notice until nothing is held", held, TARGET_SECONDS, raw=raw)
    begun_again = sum(chunk["attempts"] - 1 for chunk in done.values())
    yield Figure("spot, chunks begun again, per slot", begun_again / SLOTS, 1.0, raw={"begun again": begun_again})
    raw = {"in vain s": round(sum(again.values()), 1), "these chunks s": round(whole, 1)}
    yield Figure(
        "spot, CPU in vain against that of the same chunks", sum(again.values()) / (whole or 1.0), 1.0, raw=raw
    )


def _busy(world: World) -> bool:
    """Each slot encodes pictures: the sound is the chunk before them, subtitles the one behind."""
    pictures = {chunk["number"]: chunk["worker"] for chunk in world.query(RUNNING) if 0 < chunk["number"] <= SLOTS}
    return len(pictures) == len(set(pictures.values())) == SLOTS


def _spent_until_released(world: World, leaving: Host, patience: float) -> dict[tuple[int, str], float]:
    """(chunk, token) → what its encoder's programs had spent when they were last seen."""
    spent: dict[tuple[int, str], float] = {}

    def released() -> bool:
        for chunk in world.query(RUNNING):
            if seconds := cpu.living(int(chunk["worker"].rpartition(":")[2]), itself=False):
                spent[chunk["number"], chunk["token"]] = seconds
        return len(leaving.events("ENCODER_ENDED")) == SLOTS

    eventually(released, seconds=patience, every=0.5)
    return spent


if __name__ == "__main__":
    sys.exit(main())
