"""`bench soak`: an appliance busy and idle in turn, hour after hour if need be; what it holds when idle must not grow.

Each cycle brings a crowd of tiny recordings and a longer one, each rung for twice, a file that is no recording, a
cancelled video, a body that nobody can read, a reload and the death of one encoder in mid-work. Once every encoder has
worked, the new one too, all is quiet, and what is still held is written down.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.cli import terminal
from tests.benchmarks import stack
from tests.hosts import Host, World, eventually, host
from tests.recordings import lecture

#: After each busy spell, before the first look.
QUIET_SECONDS = 12.0
#: Samples while it is quiet; of each figure the median counts, for a poll may just begin or end.
LOOKS = 5
TINY = 12
ENCODERS = 3
MIB = 1 << 20
#: Larger than what one cycle brings, so that it is full once the first cycles are over.
SOURCE_CACHE_BYTES = MIB // 2
#: How much more the last cycles may show than the first that count; nothing else may grow at all. Interpreters come to
#: rest slowly, and which sources lie in the cache is chance.
ALLOWED: dict[str, float] = {"supervisor_memory": 1.5 * MIB, "fork_server_memory": MIB / 2, "encoder_memory": 1.5 * MIB}
ALLOWED |= {"scratch_bytes": SOURCE_CACHE_BYTES / 2}
#: Of the cycles, at the beginning: caches fill, lazy imports happen.
UNSETTLED = 1 / 4
LEAST_CYCLES = 6
SETTINGS: dict[str, Any] = {
    "pool": {"encoders": ENCODERS, "backoff_first_seconds": 1, "backoff_cap_seconds": 2},
    "workspace": {"source_cache_bytes": SOURCE_CACHE_BYTES},
    "encode": {
        "ladder": [{"short_side": 180, "crf": 28, "maxrate": "400k"}, {"short_side": 90, "crf": 30, "maxrate": "200k"}],
        "chunk_seconds": 6,
    },
}

Sample = dict[str, float]


@dataclass(frozen=True)
class Growth:
    """One figure: its medians over the first and the last third of the cycles that count."""

    name: str
    first: float
    last: float

    @property
    def allowed(self) -> float:
        return ALLOWED.get(self.name, 0.0)

    @property
    def found(self) -> bool:
        return self.last - self.first > self.allowed


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--json", action="store_true", help="every cycle and the verdict as one JSON object")
    options = parser.parse_args()
    os.nice(10)  # how fast it is does not matter
    with stack.stage() as (world, directory):
        os.environ["TMPDIR"] = str(directory / "temporary")
        (directory / "temporary").mkdir()
        tiny = lecture(directory / "tiny.mp4", seconds=2, size="160x90", rate="15")
        longer = lecture(directory / "longer.mp4", seconds=24, size="320x180", rate="15")
        with host(world, directory / "host", **SETTINGS) as running:
            eventually(lambda: len(running.events("ENCODER_BOOTED")) >= ENCODERS)
            cycles = soak(Cycle(world, running, tiny, longer, random.Random(options.seed)), options.minutes)
            died = running.process.poll()
    return tell(cycles, options, died)


def soak(cycle: Cycle, minutes: float) -> list[Sample]:
    """One sample for each cycle, until the time is over."""
    until = time.monotonic() + 60 * minutes
    samples: list[Sample] = []
    while time.monotonic() < until:
        cycle.busy()
        time.sleep(QUIET_SECONDS)
        looks = [cycle.look() for _ in range(LOOKS)]
        samples.append({name: statistics.median(look[name] for look in looks) for name in looks[0]})
        shown = " ".join(f"{name}={value:.0f}" for name, value in samples[-1].items())
        print(f"cycle {len(samples)}: {shown}", file=sys.stderr, flush=True)
    return samples


class Cycle:
    """What one cycle does to the appliance, and what it looks at."""

    def __init__(self, world: World, running: Host, tiny: Path, longer: Path, moments: random.Random) -> None:
        self._world, self._running, self._moments = world, running, moments
        self._tiny, self._longer = tiny, longer
        self._redis = redis.Redis.from_url(world.redis_url)
        self._supervisor = psutil.Process(running.process.pid)
        database = Database(world.dsn, application_name="soak")
        self._leases = Leases(database, lease_seconds=9, max_losses=5)

    def busy(self) -> None:
        """Returns when every video has ended."""
        world = self._world
        videos = [world.upload(file) for file in (self._longer, *TINY * [self._tiny], Path(__file__))]
        for video_id in 2 * videos:
            world.ring(video_id)
        world.aws.client("sqs").send_message(QueueUrl=world.queue_url, MessageBody="not for us")
        self._leases.cancel(videos[-2])
        self._running.process.send_signal(signal.SIGHUP)
        time.sleep(self._moments.uniform(1, 10))
        self._encoders()[-1].kill()
        stack.until_ended(world, videos, patience=600)
        eventually(self._all_have_worked, seconds=600, every=1.0)
        client = world.aws.client("s3")
        for key in world.objects(""):  # moto keeps them in memory
            client.delete_object(Bucket=world.bucket, Key=key)

    def _all_have_worked(self) -> bool:
        """What an encoder holds after its first job it keeps; until each has had one, there are more."""
        idle = [encoder for encoder in self._encoders() if not self._has_worked(encoder)]
        for video_id in [self._world.upload(self._tiny) for _ in idle]:
            self._world.ring(video_id)
        waiting = "SELECT count(*) AS n FROM video WHERE status IN ('UPLOADED', 'PROCESSING')"
        eventually(lambda: self._world.query(waiting)[0]["n"] == 0, seconds=600)
        return not idle and len(self._encoders()) == ENCODERS

    def _has_worked(self, encoder: psutil.Process) -> bool:
        port = self._redis.connection_pool.connection_kwargs["port"]
        try:
            return any(connection.raddr and connection.raddr.port == port for connection in encoder.net_connections())
        except psutil.NoSuchProcess:  # the one that was killed
            return False

    def look(self) -> Sample:
        """Memory is what a process has that no file holds, be it shared with whom it was forked from or its own by now:
        its own alone would grow with every page that it touches, a fair share of it with every program that ends.
        """
        time.sleep(1)
        eventually(lambda: len(self._encoders()) == ENCODERS)
        fork_server, encoders = self._fork_server(), self._encoders()
        ours = [self._supervisor, fork_server, *encoders]
        page = self._page("metrics")
        self._page("")
        return {
            "supervisor_memory": _anonymous(self._supervisor),
            "fork_server_memory": _anonymous(fork_server),
            # not the youngest: it was born in this cycle
            "encoder_memory": statistics.mean(_anonymous(encoder) for encoder in encoders[:-1]),
            "supervisor_descriptors": self._supervisor.num_fds(),
            "fork_server_descriptors": fork_server.num_fds(),
            "encoder_descriptors": max(encoder.num_fds() for encoder in encoders),
            "threads": sum(process.num_threads() for process in ours),
            "processes": len(self._supervisor.children(recursive=True)),
            "scratch_bytes": sum(path.stat().st_size for path in self._files("scratch")),
            "scratch_files": len([path for path in self._files("scratch") if "sources" not in path.parts]),
            "runtime_files": len(list(self._running.log_path.parent.iterdir())),
            "temporary_files": len(list(Path(os.environ["TMPDIR"]).iterdir())),
            "postgres_connections": self._connections(),
            "redis_connections": len(self._redis.client_list()),
            "redis_keys_for_ever": sum(self._redis.ttl(key) == -1 for key in self._redis.scan_iter()),
            "queue_length": self._queue_length(),
            "metric_lines": page.count("\n"),
        }

    def _fork_server(self) -> psutil.Process:
        return next(it for it in self._supervisor.children() if any("forkserver" in word for word in it.cmdline()))

    def _encoders(self) -> list[psutil.Process]:
        """The eldest first."""
        return sorted(self._fork_server().children(), key=lambda process: process.create_time())

    def _files(self, name: str) -> list[Path]:
        return [path for path in (self._running.log_path.parent / name).rglob("*") if path.is_file()]

    def _connections(self) -> int:
        clients = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
        return int(self._world.query(f"SELECT count(*) AS n FROM pg_stat_activity WHERE {clients}")[0]["n"])

    def _queue_length(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        client = self._world.aws.client("sqs")
        found = client.get_queue_attributes(QueueUrl=self._world.queue_url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def _page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._running.port}/{path}", timeout=10) as answer:
            return str(answer.read().decode())


def _anonymous(process: psutil.Process) -> int:
    """Bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


def growths(cycles: list[Sample]) -> list[Growth]:
    """Medians, so that one odd cycle is no trend; thirds, so that one step is."""
    settled = cycles[round(len(cycles) * UNSETTLED) :]
    third = max(1, len(settled) // 3)

    def middle(name: str, some: list[Sample]) -> float:
        return statistics.median(sample[name] for sample in some)

    return [Growth(name, middle(name, settled[:third]), middle(name, settled[-third:])) for name in cycles[0]]


def tell(cycles: list[Sample], options: argparse.Namespace, died: int | None) -> int:
    found = growths(cycles) if cycles else []
    ok = len(cycles) >= LEAST_CYCLES and died is None and not any(growth.found for growth in found)
    if options.json:
        grown = [growth.name for growth in found if growth.found]
        terminal.emit({"name": "soak", "ok": ok, "minutes": options.minutes, "grown": grown, "cycles": cycles})
    else:
        rows = [
            (
                it.name,
                *(_shown(it.name, value) for value in (it.first, it.last, it.allowed)),
                "GREW" if it.found else "ok",
            )
            for it in found
        ]
        terminal.table(f"soak: {len(cycles)} cycles", ["held when idle", "first>", "last>", "may grow by>", ""], rows)
        if len(cycles) < LEAST_CYCLES:
            terminal.say(f"Too short: {LEAST_CYCLES} cycles are needed to see a trend.")
        if died is not None:
            terminal.say(f"The supervisor ended with status {died}.")
    return 0 if ok else 1


def _shown(name: str, value: float) -> str:
    return terminal.size(value) if name in ALLOWED else f"{value:.0f}"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
