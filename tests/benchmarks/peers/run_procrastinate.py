"""`prepare DSN JOBS` defers so many jobs that do nothing; `work DSN CONCURRENCY` is one worker, until none is left."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import procrastinate

DONE = "SELECT count(*) AS done FROM procrastinate_jobs WHERE status = 'succeeded'"


async def main(verb: str, dsn: str, number: int) -> dict[str, float]:
    size = number + 4 if verb == "work" else 4
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, max_size=size))

    @app.task(name="nothing")
    async def nothing() -> None:
        pass

    async with app.open_async():
        if verb == "prepare":
            await app.schema_manager.apply_schema_async()
            await nothing.batch_defer_async(*({} for _ in range(number)))
            return {}
        began = time.monotonic()
        # no notifications to listen for, and the jobs are kept, as our rows are
        await app.run_worker_async(concurrency=number, wait=False, listen_notify=False, delete_jobs="never")
        ended = time.monotonic()
        rows = await app.connector.execute_query_all_async(DONE)
    return {"began": began, "ended": ended, "done": rows[0]["done"]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
