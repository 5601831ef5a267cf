"""`bench claimers`: five hundred claimers at once, each with a connection of its own, on a million rows.

First all of them are rung for the same videos; then each takes the next due video, again and again. Exit 0 only when
nobody ever got what somebody else had, and the rows and their history say the same.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import threading
import time
import uuid
from collections import Counter
from typing import Any

import psycopg2

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.domain.video import Lease, Worker
from appliance.local.stack import Stack
from tests.benchmarks.claims import FILL, database, percentile
from tests.benchmarks.measure import Figure, parser, tell

#: Processes share the claimers: one interpreter would be the bottleneck.
PROCESSES = 10
#: Beside the claimers' connections.
OTHER_CONNECTIONS = 20
SHARES = (50, 90, 99)

Found = dict[str, list[tuple[int, float]]]


def claimers(dsn: str, count: int, doorbells: list[int], claims: int, together: Any, answers: Any) -> None:
    """A process: so many threads; answers with (video, seconds) of every lease, by way."""
    found: Found = {"rung for the same videos": [], "next due": []}
    lock, begin = threading.Lock(), threading.Barrier(count + 1)

    def claimer(number: int) -> None:
        worker = Worker("bench", f"bench:{number}")
        leases = Leases(
            Database(dsn, application_name="bench", connect_timeout_seconds=60, statement_timeout_seconds=60),
            lease_seconds=3600,
            max_losses=5,
        )
        leases.claim(-1, worker, uuid.uuid4())  # connects
        begin.wait()
        for video_id in random.sample(doorbells, len(doorbells)):
            taken = _timed(lambda: leases.claim(video_id, worker, uuid.uuid4()))  # noqa: B023 - called at once
            _keep(found["rung for the same videos"], taken, lock)
        begin.wait()
        for _ in range(claims):
            _keep(found["next due"], _timed(lambda: leases.claim_next(worker, uuid.uuid4())), lock)

    threads = [threading.Thread(target=claimer, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        together.wait()
        begin.wait()
    for thread in threads:
        thread.join()
    answers.put(found)


def _timed(claim: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return claim(), time.perf_counter() - began


def _keep(found: list[tuple[int, float]], taken: tuple[Any, float], lock: threading.Lock) -> None:
    lease, seconds = taken
    if isinstance(lease, Lease):
        with lock:
            found.append((lease.video_id, seconds))


def run(dsn: str, clients: int, doorbells: list[int], claims: int) -> Found:
    context = multiprocessing.get_context("spawn")
    processes = min(PROCESSES, clients)
    together, answers = context.Barrier(processes), context.Queue()
    counts = [clients // processes + (number < clients % processes) for number in range(processes)]
    started = [
        context.Process(target=claimers, args=(dsn, count, doorbells, claims, together, answers)) for count in counts
    ]
    for process in started:
        process.start()
    found = [answers.get(timeout=1200) for _ in started]
    for process in started:
        process.join()
    return {way: [one for each in found for one in each[way]] for way in found[0]}


def measure(clients: int, rows: int, claims: int) -> list[Figure]:
    stack = Stack()
    stack.postgres.command.append(f"--max_connections={clients + OTHER_CONNECTIONS}")
    try:
        stack.postgres.start()
        with database(stack.postgres, FILL.format(rows=rows)) as dsn:
            # the last of the due ones, so that claim_next does not meet them
            doorbells = [rows - 1 - 2 * n for n in range(min(100, rows // 4))]
            found = run(dsn, clients, doorbells, claims)
            return [*(_figure(way, taken, clients) for way, taken in found.items()), _table(dsn, found)]
    finally:
        stack.stop()


def _figure(way: str, taken: list[tuple[int, float]], clients: int) -> Figure:
    """Leases more than videos: 0, or somebody got what somebody else had."""
    times = [seconds for _, seconds in taken]
    raw = {f"p{share} ms": round(1000 * percentile(times, share), 1) for share in SHARES}
    twice = sum(number - 1 for number in Counter(video_id for video_id, _ in taken).values())
    return Figure(f"{clients} claimers, {way}: claimed twice", float(twice), 0.0, raw={"leases": len(taken), **raw})


def _table(dsn: str, found: Found) -> Figure:
    """What the rows and the history say of it: 0, or a claim was written twice or not at all."""
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), count(*) FILTER (WHERE lease_epoch <> 1), (SELECT count(*) FROM video_attempt)"
            " FROM video WHERE status = 'PROCESSING'"
        )
        rows, again, attempts = cursor.fetchone()
    connection.close()
    leases = sum(len(taken) for taken in found.values())
    wrong = abs(rows - leases) + again + abs(attempts - leases)
    return Figure("rows and attempts that disagree with the leases", float(wrong), 0.0, raw={"rows": rows})


def main() -> int:
    made = parser("claimers", __doc__, rounds=1)
    made.add_argument("--clients", type=int, default=500)
    made.add_argument("--rows", type=int, default=1_000_000)
    options = made.parse_args()
    size = (20, 2_000, 5) if options.quick else (options.clients, options.rows, 20)
    return tell(measure(*size), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
