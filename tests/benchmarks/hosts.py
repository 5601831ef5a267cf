"""`./install.sh bench hosts`: three hosts with addresses of their own; each is cut off from what it needs, one is lost.

Real supervisors in network namespaces share one PostgreSQL, Redis and AWS endpoint. A host that owns videos is cut off
from each of them in turn, then from all, and at last one is gone without a word. Exits 0 only when every video is READY
and whole, none was published twice, and every row's history is legal.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from psycopg2.extensions import make_dsn, parse_dsn

from appliance.adapters.s3 import S3
from appliance.local.port import LOOPBACK
from tests.benchmarks.network import Network, alone, network
from tests.benchmarks.stack import stage, tell
from tests.chaos import bucket, checker, history
from tests.chaos.checker import Killed, Violation
from tests.chaos.scale import ENCODE
from tests.hosts import Host, World, eventually, host
from tests.recordings import lecture

HOSTS = ("north", "east", "west")
SERVERS = ("postgres", "redis", "aws")
#: Longer than the stories' lease of nine seconds, so that a host which is cut off from PostgreSQL loses what it holds.
CUT_SECONDS = 15.0
#: Videos under way at any time, a little more than the encoders of all hosts.
UNDER_WAY = 9
SECONDS_A_VIDEO = 12
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Blow:
    """One host loses its way to these servers; `lost`: and then all its processes, for good."""

    host: str
    servers: tuple[str, ...]
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.host} is gone" if self.lost else f"{self.host} without {', '.join(self.servers)}"


BLOWS = (
    Blow("north", ("postgres",)),
    Blow("east", ("redis",)),
    Blow("west", ("aws",)),
    Blow("north", SERVERS),
    Blow("east", SERVERS, lost=True),
)


@dataclass
class Felt:
    """What a blow met: the videos its host owned then."""

    blow: Blow
    owned: list[Killed]


def main() -> int:
    parser = argparse.ArgumentParser(prog="./install.sh bench hosts", description=__doc__)
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args()
    if not alone("tests.benchmarks.hosts"):
        print("bench hosts: needs root and network namespaces; nothing was measured", file=sys.stderr)
        return 1
    with ExitStack() as running:
        inner, directory = running.enter_context(stage())
        net = running.enter_context(network(_ports(inner), HOSTS))
        history.install(inner.dsn)
        outer = seen_from_hosts(inner, net)
        begin = partial(_host, running, outer, net, directory)
        figures = play(inner, net, {name: begin(name) for name in HOSTS}, directory, options.videos)
    return tell(figures, as_json=options.json)


def _ports(world: World) -> dict[str, int]:
    redis, aws = urlsplit(world.redis_url).port, urlsplit(world.aws.endpoint_url).port
    assert redis is not None
    assert aws is not None
    return {"postgres": int(parse_dsn(world.dsn)["port"]), "redis": redis, "aws": aws}


def seen_from_hosts(world: World, net: Network) -> World:
    """The same world by the addresses that the hosts know."""
    postgres, redis, aws = (net.servers[name][0] for name in SERVERS)
    there = copy.copy(world.aws)
    there.endpoint_url = world.aws.endpoint_url.replace(LOOPBACK, aws)
    queue = world.queue_url.replace(LOOPBACK, aws)
    return World(
        make_dsn(world.dsn, host=postgres), world.redis_url.replace(LOOPBACK, redis), there, world.bucket, queue
    )


def _host(running: ExitStack, world: World, net: Network, directory: Path, name: str) -> Host:
    changes: dict[str, dict[str, Any]] = {"encode": ENCODE, "aws": {"connect_timeout_seconds": 2}}
    one = running.enter_context(host(world, directory / name, inside=net.inside(name), **changes))
    eventually(lambda: one.events("ENCODER_BOOTED"))
    return one


def play(world: World, net: Network, hosts: dict[str, Host], directory: Path, videos: int) -> dict[str, Any]:
    """Feed, strike, and judge; returns the figures of the bench."""
    source = lecture(directory / "lecture.mp4", seconds=SECONDS_A_VIDEO, size="320x180", rate="10")
    began = time.monotonic()
    submitted: set[int] = set()
    felt: list[Felt] = []
    feed = partial(_feed, world, source, math.inf, submitted)
    for number, blow in enumerate(BLOWS):
        # spread over the videos, and each meets a host at work
        enough = number / len(BLOWS) * videos
        _until(partial(lambda least, name: len(submitted) >= least and _owned(world, name), enough, blow.host), feed)
        felt.append(_strike(world, net, blow, feed))
    _until(lambda: len(submitted) >= videos and not _under_way(world), partial(_feed, world, source, videos, submitted))
    seconds = time.monotonic() - began
    return _judged(world, hosts, submitted, felt, seconds)


def _strike(world: World, net: Network, blow: Blow, feed: Any) -> Felt:
    owned = [Killed(row["id"], row["lease_epoch"], datetime.now(UTC)) for row in _owned(world, blow.host)]
    print(f"{blow}: it owns {len(owned)} videos", file=sys.stderr)
    for server in blow.servers:
        net.cut(blow.host, server)
    if blow.lost:  # after its cables, so that nobody hears of its end
        for pid in net.pids(blow.host):
            os.kill(pid, signal.SIGKILL)
        return Felt(blow, owned)
    until = time.monotonic() + CUT_SECONDS
    _until(lambda: time.monotonic() >= until, feed)
    for server in blow.servers:
        net.mend(blow.host, server)
    return Felt(blow, owned)


def _until(condition: Any, feed: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the videos did not come to their end")
        feed()
        time.sleep(0.2)


def _feed(world: World, source: Path, at_most: float, submitted: set[int]) -> None:
    """Submit until enough are under way."""
    for _ in range(UNDER_WAY - _under_way(world)):
        if len(submitted) >= at_most:
            return
        video_id = world.upload(source)
        world.ring(video_id)
        submitted.add(video_id)


def _under_way(world: World) -> int:
    return int(world.query("SELECT count(*) AS n FROM video WHERE status IN ('UPLOADED', 'PROCESSING')")[0]["n"])


def _owned(world: World, name: str) -> list[dict[str, Any]]:
    """What an encoder of this host holds; worker names begin with their host's."""
    return world.query(
        "SELECT id, lease_epoch FROM video WHERE status = 'PROCESSING' AND starts_with(leased_by, %s)", f"{name}:"
    )


def _judged(
    world: World, hosts: dict[str, Host], submitted: set[int], felt: list[Felt], seconds: float
) -> dict[str, Any]:
    found = history.load(world.dsn)
    killed = [one for blow in felt for one in blow.owned]
    report = checker.check(found, submitted=submitted, max_losses=5, killed=killed)
    storage = S3(world.aws.client("s3"), world.bucket)
    read = bucket.check(world.query, storage, real=submitted, sample=0, seed=0)
    violations = [*report.violations, *read.violations, *_mistakes(hosts)]
    for violation in violations:
        print(f"VIOLATION {violation.rule}: {violation.sentence}", file=sys.stderr)
    return {
        "name": "hosts",
        "videos": len(submitted),
        "ready": report.outcomes["READY"],
        "streams proven after the run": read.proven,
        **{str(one.blow): _told(found, one) for one in felt},
        "attempts": dict(report.attempts),
        "median takeover seconds": checker.median(report.taken_over),
        "longest takeover seconds": round(max(report.taken_over, default=0.0), 1),
        "seconds": round(seconds, 1),
        "violations": len(violations),
        "ok": not violations and report.outcomes["READY"] == len(submitted),
    }


def _told(found: history.History, felt: Felt) -> str:
    """What became of the videos that the host owned then."""
    report = checker.Report()
    for one in felt.owned:
        checker.measure(report, found.videos[one.video_id], one)
    taken = ", ".join(f"{seconds:.1f}" for seconds in sorted(report.taken_over))
    fate = f"claimed anew after {taken} s" if taken else "finished by itself"
    return f"owned {len(felt.owned)}; {fate}"


def _mistakes(hosts: dict[str, Host]) -> Iterator[Violation]:
    for name, one in hosts.items():
        for event in ("INTERNAL_ERROR", "HEARTBEAT_DIED", "RECONCILE_FAILED", "ABANDON_FAILED"):
            if number := len(one.events(event)):
                yield Violation("mistake", f"{name} logged {event} {number} times")


if __name__ == "__main__":
    sys.exit(main())
