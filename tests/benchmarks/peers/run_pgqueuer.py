"""`prepare DSN JOBS` enqueues so many jobs that do nothing; `work DSN WORKERS` takes them one by one (batch_size=1).

The workers of one process share its event loop, each with a connection of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import asyncpg
from pgqueuer import Queries, QueueManager
from pgqueuer.types import QueueExecutionMode

DONE = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"


async def worker(connection: asyncpg.Connection) -> None:
    manager = QueueManager(Queries.from_asyncpg_connection(connection))

    @manager.entrypoint("nothing")
    async def nothing(_: object) -> None:
        pass

    await manager.run(batch_size=1, mode=QueueExecutionMode.drain)


async def main(verb: str, dsn: str, number: int) -> dict[str, float]:
    connections = [await asyncpg.connect(dsn) for _ in range(number if verb == "work" else 1)]
    if verb == "prepare":
        queries = Queries.from_asyncpg_connection(connections[0])
        await queries.install()
        await queries.enqueue(["nothing"] * number, [None] * number, [0] * number)
        return {}
    began = time.monotonic()
    await asyncio.gather(*map(worker, connections))
    ended = time.monotonic()
    return {"began": began, "ended": ended, "done": await connections[0].fetchval(DONE)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
