"""`bench kill`: owner and assistant of one lecture are killed in turn, at random; nothing finished is done again.

A victim is stopped before it is looked at, so that what it holds is what it loses.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from appliance.adapters.s3 import S3
from appliance.cli.bar import Bar
from tests.benchmarks import cpu, stack, ways
from tests.hosts import World, eventually, host

RUNNING = "SELECT * FROM video_chunk WHERE state = 'RUNNING' AND worker = %s"
ASSISTANTS = "SELECT worker FROM video_chunk WHERE state = 'RUNNING' AND assisted"
OWNERS = "SELECT leased_by AS worker FROM video WHERE status = 'PROCESSING'"
DONE = "SELECT number, token FROM video_chunk WHERE state = 'DONE'"
#: The longest wait for the moment of a kill: about the time a chunk takes.
LONGEST_SECONDS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench kill", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the lecture")
    parser.add_argument("--kills", type=int, default=10, help="how many, owner and assistant in turn")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; printed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 30)
    with stack.stage() as (world, directory), Bar(quiet=options.json) as bar:
        bar.show(0, "render")
        source = stack.lecture(directory, options.minutes)
        figures = run(world, directory, source, options, random.Random(seed), bar)
    return stack.tell({"name": "kill", **figures, "seed": seed}, as_json=options.json)


def run(
    world: World, directory: Path, source: Path, options: argparse.Namespace, moments: random.Random, bar: Bar
) -> dict[str, Any]:
    # Crashes in a row back off for up to a minute by default; here they are the subject.
    changes: dict[str, Any] = {**stack.REAL, "pool": {"encoders": 2, "backoff_cap_seconds": 2}}
    # Kills may come faster than chunks are finished: the video is not to be given up for that.
    changes["lease"] = {**changes.get("lease", {}), "max_losses": options.kills + 1}
    changes["encode"] = {"chunk_seconds": max(6, 6 * round(options.minutes * 60 / (3 * options.kills) / 6))}
    patience = stack.PATIENCE_FACTOR * 60 * options.minutes
    killed: list[dict[str, Any]] = []
    with host(world, directory / "host", **changes):
        video_id = world.upload(source)
        world.ring(video_id)
        for number in range(options.kills):
            bar.show(100 * number / options.kills, "kill")
            killed.append(kill(world, OWNERS if number % 2 == 0 else ASSISTANTS, moments))
        stack.until_ended(world, [video_id], patience=patience)
    row = world.row(video_id)
    broken, _ = ways.verify(S3(world.aws.client("s3"), world.bucket), str(row["hls_path"]))
    return judged(world, row, killed, broken)


def judged(world: World, row: dict[str, Any], killed: list[dict[str, Any]], broken: list[str]) -> dict[str, Any]:
    chunks = world.query("SELECT * FROM video_chunk ORDER BY number")
    tokens = {chunk["number"]: str(chunk["token"]) for chunk in chunks}
    cost = {chunk["number"]: chunk["objects"]["cost"]["cpu_seconds"] for chunk in chunks if chunk["objects"]}
    in_flight = [number for one in killed for number in one["held"]]
    twice = sum(chunk["attempts"] - 1 for chunk in chunks)
    redone = sorted({number for one in killed for number, token in one["done"].items() if tokens[number] != token})
    cpu_twice = sum(one["cpu_seconds"] for one in killed)
    bound = sum(cost.get(number, 0.0) for number in in_flight)
    ratio = twice / len(in_flight) if in_flight else float(twice)
    return {
        "ratio": round(ratio, 3),
        "target": 1.0,
        "ok": row["status"] == "READY" and ratio <= 1 and not redone and not broken,
        "status": row["status"],
        "kills": len(killed),
        "chunks": len(chunks),
        "chunks_begun_again": twice,
        "chunks_in_flight_when_killed": len(in_flight),
        "finished_chunks_done_again": redone,
        "cpu_seconds_lost": round(cpu_twice, 1),
        "cpu_seconds_of_chunks_in_flight": round(bound, 1),
        "cpu_seconds_of_the_video": round(sum(cost.values()), 1),
        "attempts": [attempt["outcome"] for attempt in world.attempts(row["id"])],
        "broken": broken,
    }


def kill(world: World, who: str, moments: random.Random) -> dict[str, Any]:
    """Kill the encoder that the query names, some time after there is one; what it held, and what was DONE then."""
    while True:
        eventually(lambda: world.query(who), seconds=600, every=0.02)
        time.sleep(moments.uniform(0, LONGEST_SECONDS))
        worker = next((found["worker"] for found in world.query(who)), None)
        if worker is None:
            continue
        pid = int(worker.rpartition(":")[2])
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            continue  # it has just died of the last kill
        time.sleep(0.05)  # a statement that was on its way arrives
        if not any(found["worker"] == worker for found in world.query(who)):
            os.kill(pid, signal.SIGCONT)  # its turn is over
            continue
        held = [chunk["number"] for chunk in world.query(RUNNING, worker)]
        done = {chunk["number"]: str(chunk["token"]) for chunk in world.query(DONE)}
        spent = cpu.living(pid, itself=False)
        os.kill(pid, signal.SIGKILL)
        return {"held": held, "done": done, "cpu_seconds": spent}


if __name__ == "__main__":
    sys.exit(main())
