"""`bench model`: every state of the model within its bounds; exits 0 only when no invariant breaks.

Without a bound of its own it explores those below; a larger one takes minutes and gigabytes. Random walks of the model
are then taken on real PostgreSQL as well, and both are compared after every step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from appliance.adapters.postgres.migrate import migrate
from appliance.local.stack import Stack
from tests.adapters.postgres.scene import Scene
from tests.model.explore import Explored, explore
from tests.model.invariants import INVARIANTS, LIVENESS
from tests.model.replay import walked
from tests.model.state import first

#: workers, chunks, plans, messages that the queue holds, faults.
BOUNDS = [(2, 2, 1, 1, 1), (2, 1, 2, 0, 2), (2, 2, 2, 2, 1)]
NAMES = ("workers", "chunks", "plans", "room", "budget")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench model", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object a bound")
    parser.add_argument("--bound", nargs=5, type=int, metavar=("WORKERS", "CHUNKS", "PLANS", "MESSAGES", "FAULTS"))
    parser.add_argument("--walks", type=int, default=200, help="walks on real PostgreSQL")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not arguments.json:
        print("Invariants:", *INVARIANTS, LIVENESS, sep="\n  ")
    violated = False
    for bound in [arguments.bound] if arguments.bound else BOUNDS:
        begun = time.monotonic()
        alive: dict[str, Any] = {}
        explored = explore(first(**dict(zip(NAMES, bound, strict=True))), alive=alive)
        violated |= explored.violation is not None
        needed = sum(found is not None for found in alive.values())
        seconds = round(time.monotonic() - begun, 1)
        more = {"guards": len(alive), "guards_needed": needed, "seconds": seconds}
        report(bound, explored, more, as_json=arguments.json)
    with stage() as scene:
        took = walked(scene, arguments.seed, arguments.walks)
    figures = {"seed": arguments.seed, "walks": arguments.walks, "steps_compared": took.total()}
    print(json.dumps(figures) if arguments.json else ", ".join(f"{name} {value:,}" for name, value in figures.items()))
    return int(violated)


@contextmanager
def stage() -> Iterator[Scene]:
    stack = Stack()
    try:
        stack.postgres.start()
        migrate(stack.postgres.dsn, table="video")
        scene = Scene(stack.postgres.dsn)
        yield scene
        scene.close()
    finally:
        stack.stop()


def report(bound: tuple[int, ...], explored: Explored, more: dict[str, float], *, as_json: bool) -> None:
    figures: dict[str, Any] = dict(zip(NAMES, bound, strict=True))
    figures |= {"states": explored.states, "steps": explored.steps, "deepest": explored.deepest, **more}
    violation = explored.violation
    if as_json:
        figures["violation"] = violation and {"invariant": violation.invariant, "story": violation.story}
        print(json.dumps(figures), flush=True)
        return
    print(", ".join(f"{name} {value:,}" for name, value in figures.items()), flush=True)
    if violation:
        print(f"  VIOLATED: {violation.invariant}", *violation.story, sep="\n    ")


if __name__ == "__main__":
    sys.exit(main())
