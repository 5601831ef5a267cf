"""`bench claims`: how fast videos are claimed and completed, beside procrastinate and pgqueuer on the same PostgreSQL.

A job does nothing; what is timed is taking it and marking it done. Ours are the appliance's own statements (claim_next
with its lease and history, complete with a receipt), each client a process as encoders are. Theirs are the clients of
one process, or as many processes: the faster counts. pgqueuer takes one job at a time, as an encoder does.
Then the time of one claim among a million rows and among ten thousand, half of them history, half due.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg2

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.migrate import migrate
from appliance.domain.video import Worker
from appliance.local.postgres import Postgres
from appliance.local.stack import Stack
from tests.benchmarks import peers
from tests.benchmarks.measure import Figure, Missing, interleaved, median, parser, rounded, tell

CLIENTS = (1, 10)
FILL = """
    INSERT INTO video (tenant_id, status, file_key, created_at, updated_at)
    SELECT 1, CASE WHEN n % 2 = 0 THEN 'READY' ELSE 'UPLOADED' END, 'sources/' || n, now(), now()
    FROM generate_series(1, {rows}) AS n
"""
DUE = """
    INSERT INTO video (tenant_id, status, file_key)
    SELECT 1, 'UPLOADED', 'sources/' || n FROM generate_series(1, {rows}) AS n
"""
RECEIPT = {"cpu_seconds": 1.0, "wall_seconds": 1.0}


@contextmanager
def database(postgres: Postgres, fill: str = "") -> Iterator[str]:
    """A fresh one; with the appliance's schema when something is to be filled in."""
    name = f"claims_{uuid.uuid4().hex}"
    administer(postgres.dsn, f"CREATE DATABASE {name}")
    dsn = postgres.database_dsn(name)
    if fill:
        migrate(dsn, table="video")
        administer(dsn, fill)
        administer(dsn, "VACUUM ANALYZE")
    yield dsn
    administer(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)")


def administer(dsn: str, statement: str) -> None:
    """Outside of any transaction."""
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


class Client:
    """One encoder's connection, without the encoder."""

    def __init__(self, dsn: str) -> None:
        self._leases = Leases(Database(dsn, application_name="bench"), lease_seconds=180, max_losses=5)
        self._worker = Worker("bench", "bench:1:1")

    def one(self) -> float | None:
        """Claim and complete; the seconds of the claim, None when nothing is due."""
        began = time.perf_counter()
        lease = self._leases.claim_next(self._worker, uuid.uuid4())
        seconds = time.perf_counter() - began
        if lease is None:
            return None
        self._leases.complete(lease, hls_path="hls/1/master.m3u8", duration_seconds=1.0, receipt=RECEIPT)
        return seconds


def client(dsn: str, together: Any, answers: Any) -> None:
    """A process: begin with the others, work until nothing is due."""
    mine, done = Client(dsn), 0
    mine.one()  # connects
    together.wait()
    began = time.monotonic()
    while mine.one() is not None:
        done += 1
    answers.put((began, time.monotonic(), done))


def ours(dsn: str, clients: int) -> float:
    """Jobs a second."""
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(clients), context.Queue()
    processes = [context.Process(target=client, args=(dsn, together, answers)) for _ in range(clients)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    begins, ends, done = zip(*found, strict=True)
    return float(sum(done) / (max(ends) - min(begins)))


def theirs(postgres: Postgres, name: str, jobs: int, clients: int, processes: int = 1) -> float:
    """Jobs a second of so many processes on one queue, each with so many clients."""
    with database(postgres) as dsn, ThreadPoolExecutor(processes) as pool:
        peers.ask(name, "prepare", dsn, jobs)
        found = list(pool.map(lambda _: peers.ask(name, "work", dsn, clients), range(processes)))
    if (done := max(one["done"] for one in found)) != jobs:
        raise RuntimeError(f"{name} did {done} of {jobs} jobs")
    return float(jobs / (max(one["ended"] for one in found) - min(one["began"] for one in found)))


def against(postgres: Postgres, clients: int, jobs: int, rounds: int) -> Iterator[Figure]:
    def mine() -> float:
        with database(postgres, DUE.format(rows=jobs + clients)) as dsn:
            return ours(dsn, clients)

    ways: dict[str, Callable[[], float]] = {"ours": mine}
    absent: dict[str, str] = {}
    for name in ("procrastinate", "pgqueuer"):
        try:
            peers.python(name)
        except Missing as error:
            absent[name] = str(error)
            continue
        ways[name] = partial(theirs, postgres, name, jobs, clients)
        if clients > 1:
            ways[f"{name}, processes"] = partial(theirs, postgres, name, jobs, 1, clients)
    found = interleaved(ways, rounds)
    for name, target in (("procrastinate", 2.5), ("pgqueuer", 1.0)):
        title = f"claims, {clients} client{'s' if clients > 1 else ''}, jobs/s against {name}"
        if name in absent:
            yield Figure(title, None, target, at_least=True, why=absent[name])
            continue
        best = max(median(rates) for way, rates in found.items() if way.startswith(name))
        raw = {way: rounded(rates, 0) for way, rates in found.items() if way == "ours" or way.startswith(name)}
        yield Figure(title, median(found["ours"]) / best, target, at_least=True, raw=raw)


def sizes(postgres: Postgres, few: int, many: int, claims: int, rounds: int) -> Iterator[Figure]:
    """The time of a claim in two tables, in turn."""
    with database(postgres, FILL.format(rows=few)) as small, database(postgres, FILL.format(rows=many)) as large:
        clients = {"few": Client(small), "many": Client(large)}
        for client in clients.values():
            client.one()
        blocks = interleaved({name: lambda it=it: block(it, claims) for name, it in clients.items()}, rounds)
    for share, target in ((50, 1.2), (99, 1.5)):
        one, other = (median(percentile(times, share) for times in blocks[name]) for name in ("few", "many"))
        raw = {f"{few} rows ms": round(1000 * one, 3), f"{many} rows ms": round(1000 * other, 3)}
        yield Figure(f"claims, p{share} of a claim, {many} rows against {few}", other / one, target, raw=raw)


def block(client: Client, claims: int) -> list[float]:
    return [seconds for _ in range(claims) if (seconds := client.one()) is not None]


def percentile(times: list[float], share: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * share // 100)]


def figures(*, jobs: int, many: int, claims: int, rounds: int) -> Iterator[Figure]:
    stack = Stack()
    try:
        stack.postgres.start()
        for clients in CLIENTS:
            yield from against(stack.postgres, clients, jobs, rounds)
        yield from sizes(stack.postgres, 10_000, many, claims, rounds)
    finally:
        stack.stop()


def main() -> int:
    made = parser("claims", __doc__, rounds=5)
    made.add_argument("--rows", type=int, default=1_000_000, help="of the large table")
    options = made.parse_args()
    small = {"jobs": 300, "many": 20_000, "claims": 100, "rounds": 1}
    usual = {"jobs": 3000, "many": options.rows, "claims": 500, "rounds": options.rounds}
    return tell(figures(**(small if options.quick else usual)), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
