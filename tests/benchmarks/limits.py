"""`bench limits`: what encoders ask of PostgreSQL, SQS, S3, Redis and CloudWatch, and what a thousand of them would.

Counted in a real run on the embedded stack: eight idle encoders first, then a recording of one minute and one of two
through one encoder, so that what a video costs and what a chunk costs come apart. The server's own log has each
statement by its name, moto's recorder each AWS call. Then the CPU time of the statements that a large fleet repeats, in
tables as such a fleet leaves them. The rest is arithmetic, for encoders that are all busy with lectures of `MINUTES`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config import CloudWatch, Lease, Reconcile
from appliance.domain.fleet import METRICS
from appliance.local.stack import Stack
from tests.benchmarks import stack
from tests.benchmarks.asked import Asked, Watch, connections, recording
from tests.benchmarks.costs import costs
from tests.benchmarks.measure import Figure, parser, tell
from tests.hosts import World, eventually, host

SLOTS, ENCODERS = 8, 1000
#: A lecture, and how much of it a slot encodes in a second (the mean of `bench fleet`).
MINUTES, SPEED = 50, 2.0
LECTURE_SECONDS = 60.0 * MINUTES / SPEED
MONTH_SECONDS = 730 * 3600.0
#: USD, list prices of us-east-1: one call of SQS; of S3 that writes or lists, that reads; of CloudWatch; a metric.
SQS_USD, PUT_USD, GET_USD, CLOUDWATCH_USD, METRIC_USD = 0.4e-6, 5e-6, 0.4e-6, 10e-6, 0.30
SIZE = "1920x1080"
#: Bytes of a video's rows, as PostgreSQL stores them.
BYTES = """
    SELECT (SELECT avg(pg_column_size(v.*)) FROM video AS v) + (SELECT avg(pg_column_size(a.*)) FROM video_attempt AS a)
           + (SELECT avg(pg_column_size(p.*)) FROM video_plan AS p) AS fixed,
           (SELECT avg(pg_column_size(c.*)) FROM video_chunk AS c WHERE c.number > 0) AS chunk
"""


@dataclass(frozen=True)
class Video:
    """What a video asks: once, and for each of its chunks. Redis: commands for each second of its encode."""

    fixed: dict[str, float]
    chunk: dict[str, float]
    redis: float
    connections: dict[str, int]

    def whole(self, what: str) -> float:
        """Of a lecture: a chunk is a minute."""
        return self.fixed[what] + self.chunk[what] * MINUTES


def idle(world: World, directory: Path, watch: Watch, *, slots: int, settle: float, seconds: float) -> Asked:
    """So many encoders with nothing to do."""
    changes = {**stack.REAL, "pool": {"encoders": slots}, "workspace": {"min_free_bytes": "64MiB"}}
    with host(world, directory / "idle", **changes, cloudwatch={"enabled": True}) as running:
        eventually(lambda: len(running.events("ENCODER_BOOTED")) == slots)
        time.sleep(settle)
        watch.begin()
        time.sleep(seconds)
        return watch.end()


def video(world: World, directory: Path, watch: Watch, quiet: Asked, *, minutes: int, size: str) -> Video:
    """A recording of one chunk and one of so many, by one encoder; `quiet`: what a host asks S3 anyway."""
    changes = {**stack.REAL, "pool": {"encoders": 1}, "encode": {"preset": "ultrafast"}}
    with host(world, directory / "busy", **changes) as running:
        eventually(lambda: running.events("ENCODER_BOOTED"))
        short, long = (_encoded(world, recording(directory, length, size), watch) for length in (1, minutes))
        held = connections(world.dsn)
    (sizes,) = world.query(BYTES)
    few, many = (_counted(asked, quiet) for asked in (short, long))
    chunk = {what: (many[what] - few[what]) / (minutes - 1) for what in few}
    chunk["sqs"] = 0.0  # one ring a video; a sweep's, for one that had to wait a moment, is no chunk's
    fixed = {what: few[what] - chunk[what] for what in few} | {"sqs": min(few["sqs"], many["sqs"])}
    chunk["bytes"], fixed["bytes"] = float(sizes["chunk"]), float(sizes["fixed"])
    return Video(fixed, chunk, sum(long.commands.values()) / long.seconds, held)


def _encoded(world: World, source: Path, watch: Watch) -> Asked:
    """From the ring to READY, without the platform's upload."""
    key = f"sources/{source.name}"
    world.aws.client("s3").upload_file(str(source), world.bucket, key)
    watch.begin()
    rows = world.query("INSERT INTO video (tenant_id, status, file_key) VALUES (1, 'UPLOADED', %s) RETURNING id", key)
    world.ring(rows[0]["id"])
    stack.until_ready(world, [rows[0]["id"]], patience=600)
    # an idle encoder may have found the row before the message, which is then received afterwards
    queue = world.aws.client("sqs")
    depth = {"QueueUrl": world.queue_url, "AttributeNames": ["All"]}
    eventually(lambda: queue.get_queue_attributes(**depth)["Attributes"]["ApproximateNumberOfMessages"] == "0", every=1)
    time.sleep(1)  # what is settled after READY
    return watch.end()


def _counted(asked: Asked, quiet: Asked) -> dict[str, float]:
    """The receive that brought the message is one; those before and after it are an idle encoder's."""
    s3 = {call: asked.of("s3").get(call, 0) - quiet.rate("s3", call) * asked.seconds for call in ("PUT", "GET")}
    sqs = asked.of("sqs")
    return {
        "statements": asked.by_encoders(),
        "sqs": sqs.get("SendMessage", 0) + sqs.get("DeleteMessage", 0) + 1,
        **s3,
    }


def per_thousand(quiet: Asked, one: Video, cost: dict[str, float], slots: int) -> dict[str, dict[str, float]]:
    """What a fleet of `ENCODERS` asks, in the order of the README's table."""
    hosts, lectures = ENCODERS / SLOTS, ENCODERS / LECTURE_SECONDS
    renewals = 2 * ENCODERS / Lease().renew_seconds
    ticking = sum(n for (who, _), n in quiet.statements.items() if who == "reconcile") / quiet.seconds * hosts
    idle_statements = sum(quiet.statements.values()) / quiet.seconds / slots * ENCODERS
    busy = renewals + lectures * one.whole("statements") + ticking
    polls, depths = (
        quiet.rate("sqs", "ReceiveMessage") / slots * ENCODERS,
        quiet.rate("sqs", "GetQueueAttributes") * hosts,
    )
    cpu_ms = (
        renewals / 2 * (cost["renew"] + cost["renew_chunk"])
        + lectures * (cost["claim_next, complete"] + MINUTES * one.chunk["statements"] * cost["renew_chunk"])
        + hosts / Reconcile().tick_seconds * cost["backlog"]
        + ENCODERS / 500 / Reconcile().tick_seconds * cost["processing_page"]
    )
    shared = {name: n for name, n in one.connections.items() if name not in ("encoder", "heartbeat")}
    puts, gets = (lectures * one.whole(what) for what in ("PUT", "GET"))
    cloudwatch = MONTH_SECONDS / CloudWatch().period_seconds
    return {
        "connections": {
            "held": 2 * ENCODERS + sum(shared.values()) * hosts,
            "a host beside its encoders": sum(shared.values()),
        },
        "statements a second": {"idle": idle_statements, "busy": busy, "PostgreSQL cores": cpu_ms / 1000},
        "SQS calls a second": {
            "idle": polls + depths,
            "busy": lectures * one.whole("sqs") + depths,
            "USD a month idle": (polls + depths) * MONTH_SECONDS * SQS_USD,
        },
        "S3 requests a second": {
            "PUT": puts,
            "GET": gets,
            "USD a month": (puts * PUT_USD + gets * GET_USD) * MONTH_SECONDS,
            "USD a thousand lectures": 1000 * (one.whole("PUT") * PUT_USD + one.whole("GET") * GET_USD),
        },
        "Redis commands a second": {"busy": one.redis * ENCODERS},
        "CloudWatch a month": {
            "calls": cloudwatch,
            "USD": cloudwatch * CLOUDWATCH_USD + len(METRICS) * METRIC_USD,
        },
        "rows": {
            "kB a lecture": one.whole("bytes") / 1000,
            "GB a month": lectures * one.whole("bytes") * MONTH_SECONDS / 1e9,
        },
    }


def figures(options: Any) -> Iterator[Figure]:
    slots, settle, seconds, minutes, size = (
        (2, 1.0, 5.0, 2, "320x180") if options.quick else (SLOTS, 20.0, 60.0, 2, SIZE)
    )
    with tempfile.TemporaryDirectory(prefix="limits-") as place:
        os.environ["MOTO_RECORDER_FILEPATH"] = f"{place}/calls"  # before moto starts
        with stack.stage() as (world, directory):
            watch = Watch(world, Path(place, "calls"))
            quiet = idle(world, directory, watch, slots=slots, settle=settle, seconds=seconds)
            one = video(world, directory, watch, quiet, minutes=minutes, size=size)
    servers = Stack()
    try:
        servers.postgres.start()
        cost = costs(
            servers.postgres, encoders=100 if options.quick else ENCODERS, seconds=0.1 if options.quick else 1.0
        )
    finally:
        servers.stop()
    yield from told(quiet, one, cost, slots)


def told(quiet: Asked, one: Video, cost: dict[str, float], slots: int) -> Iterator[Figure]:
    """What must hold: that nobody asks more than is promised here. What follows from it stands beside."""
    found = per_thousand(quiet, one, cost, slots)
    mine = [one.connections[name] for name in ("encoder", "heartbeat")]
    yield Figure("connections an encoder", float(sum(mine)), 2.0, raw=found["connections"])
    statements = sum(quiet.statements.values()) / quiet.seconds
    yield Figure(f"statements a second, {slots} idle encoders", statements, 2.0, raw=found["statements a second"])
    yield Figure("statements a video, beside its chunks'", one.fixed["statements"], 20.0)
    yield Figure(
        "statements a chunk",
        one.chunk["statements"],
        4.0,
        raw={f"{name} ms": ms for name, ms in cost.items() if name != "MiB"},
    )
    yield Figure("SQS calls a video", one.whole("sqs"), 4.0, raw=found["SQS calls a second"])
    raw = {
        **found["S3 requests a second"],
        "GET, a chunk": one.chunk["GET"],
        "PUT, once": one.fixed["PUT"],
        "GET, once": one.fixed["GET"],
    }
    yield Figure("S3 writes a chunk", one.chunk["PUT"], 60.0, raw=raw)
    yield Figure("Redis commands a second and encoder", one.redis, 3.0, raw=found["Redis commands a second"])
    yield Figure("CloudWatch, USD a month", found["CloudWatch a month"]["USD"], 3.0, raw=found["CloudWatch a month"])
    yield Figure("kB of rows a lecture", found["rows"]["kB a lecture"], 200.0, raw=found["rows"])


def main() -> int:
    options = parser("limits", __doc__, rounds=1).parse_args()
    return tell(figures(options), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
