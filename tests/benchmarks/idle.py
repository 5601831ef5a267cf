"""`bench idle`: what an appliance with eight encoders costs while nothing is to do.

The real supervisor with its real rhythm, long polls on moto's queue. CPU time is the whole tree's, memory its
proportional share (PSS, proc(5)), statements are counted by the server: each is a transaction of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2

from tests.benchmarks import cpu, stack
from tests.benchmarks.measure import Figure, median, parser, tell
from tests.hosts import World, eventually, host

SLOTS = 8
CPU_TARGET, STATEMENT_TARGET = 0.01, 1.0
SLOT_MIB, SUPERVISOR_MIB = 45.0, 80.0
#: After the last encoder has booted: first polls, first ticks, first looks.
SETTLE_SECONDS = 30.0


def figures(world: World, directory: Path, *, slots: int, seconds: float, settle: float) -> Iterator[Figure]:
    # memory for so many encoders is not needed, they do nothing
    changes = {**stack.REAL, "pool": {"encoders": slots}, "workspace": {"min_free_bytes": "64MiB"}}
    with host(world, directory / "host", **changes) as running:
        eventually(lambda: len(running.events("ENCODER_BOOTED")) == slots)
        time.sleep(settle)
        before, committed, began = cpu.living(running.process.pid), commits(world.dsn), time.monotonic()
        time.sleep(seconds)
        length = time.monotonic() - began
        used, statements = cpu.living(running.process.pid) - before, commits(world.dsn) - committed
        encoders = {event["pid"] for event in running.events("ENCODER_BOOTED")}
        memory = {process.pid: pss_mib(process) for process in cpu.below(running.process.pid)}
    yield Figure(f"idle, {slots} slots, CPU in cores", used / length, CPU_TARGET, raw={"cpu seconds": used})
    # the fork server holds what its children share; it is there for them
    alone = memory[running.process.pid]
    server = sum(share for pid, share in memory.items() if pid not in encoders) - alone
    shares = [memory[pid] + server / slots for pid in encoders]
    raw = {"fork server": server, "median": median(shares)}
    yield Figure("idle, PSS in MiB of a slot, with its part of the fork server", max(shares), SLOT_MIB, raw=raw)
    yield Figure("idle, PSS in MiB of the supervisor", alone, SUPERVISOR_MIB)
    yield Figure("idle, statements a second", statements / length, STATEMENT_TARGET, raw={"statements": statements})


def commits(dsn: str) -> int:
    """Transactions in the appliance's database so far, asked from beside it."""
    base, _, name = dsn.rpartition("/")
    connection = psycopg2.connect(f"{base}/template1")
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (name,))
        return int(cursor.fetchone()[0])
    finally:
        connection.close()


def pss_mib(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss / 2**20)


def main() -> int:
    options = parser("idle", __doc__, rounds=1).parse_args()
    seconds, settle, slots = (5.0, 1.0, 2) if options.quick else (60.0, SETTLE_SECONDS, SLOTS)
    with stack.stage() as (world, directory):
        found = figures(world, directory, slots=slots, seconds=seconds, settle=settle)
        return tell(found, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
