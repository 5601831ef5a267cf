"""What the servers were asked, as they know it themselves: statements, AWS calls, commands of Redis, connections."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import redis

from appliance.adapters.ffmpeg import tools
from tests.benchmarks.claims import administer
from tests.hosts import World

STATEMENT = re.compile(r"^video-appliance (\w+).*?\|LOG:  statement: /\* video-appliance (\w+) \*/", re.MULTILINE)
NEXT = re.compile(r"\S")
SERVICE = re.compile(r"Credential=[^/]+/\d+/[^/]+/(\w+)/")
#: What time calls for: the heartbeat of an encode, and an encoder that has nothing to do.
BY_TIME = frozenset({"renew", "renew_chunk", "check", "session", "claim_next", "claim_assist", "help_wanted"})


@dataclass(frozen=True)
class Asked:
    """In so many seconds: statements by (whose connection, name), AWS calls by (service, call), commands of Redis."""

    seconds: float
    statements: Mapping[tuple[str, str], int]
    calls: Mapping[tuple[str, str], int]
    commands: Mapping[str, int]

    def of(self, service: str) -> dict[str, int]:
        return {call: number for (found, call), number in self.calls.items() if found == service}

    def rate(self, service: str, call: str) -> float:
        """A second."""
        return self.calls.get((service, call), 0) / self.seconds

    def by_encoders(self) -> int:
        """Statements of encoders about a video, but for those that only time calls for."""
        return sum(n for (who, name), n in self.statements.items() if who != "reconcile" and name not in BY_TIME)


class Watch:
    """Counts from `begin` to `end`. `recording`: where moto was told to write (MOTO_RECORDER_FILEPATH)."""

    def __init__(self, world: World, recording: Path) -> None:
        self._log, self._recording = world.aws.log.parent / "postgres.log", recording
        self._redis = redis.Redis.from_url(world.redis_url)
        for change in ("log_statement = 'all'", "log_line_prefix = '%a|'"):
            administer(world.dsn, f"ALTER SYSTEM SET {change}")
        administer(world.dsn, "SELECT pg_reload_conf()")
        recording.touch()
        start = f"{world.aws.endpoint_url}/moto-api/recorder/start-recording"
        urllib.request.urlopen(urllib.request.Request(start, method="POST")).close()

    def begin(self) -> None:
        self._said, self._heard = self._log.stat().st_size, self._recording.stat().st_size
        self._redis.config_resetstat()
        self._began = time.monotonic()

    def end(self) -> Asked:
        seconds = time.monotonic() - self._began
        commands = {
            name.removeprefix("cmdstat_"): one["calls"] for name, one in self._redis.info("commandstats").items()
        }
        said = _tail(self._log, self._said)
        calls = Counter(filter(None, map(_call, _requests(_tail(self._recording, self._heard)))))
        return Asked(seconds, Counter(STATEMENT.findall(said)), calls, commands)


def _tail(file: Path, offset: int) -> str:
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read().decode()


def _requests(recorded: str) -> Iterator[dict[str, Any]]:
    """One JSON object after the other; moto's threads do not wait for each other's ends of line."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(recorded):
        request, at = decoder.raw_decode(recorded, at)
        yield request
        at = found.start() if (found := NEXT.search(recorded, at)) else len(recorded)


def _call(request: dict[str, Any]) -> tuple[str, str] | None:
    """(service, call); None for a request that nobody signed. S3's calls by their price: PUT or GET."""
    headers = {name.lower(): value for name, value in request["headers"].items()}
    service = SERVICE.search(headers.get("authorization", ""))
    if service is None:
        return None
    if service[1] != "s3":
        return service[1], headers.get("x-amz-target", request["method"]).rpartition(".")[2]
    listing = "list-type=" in request["url"]
    return "s3", "PUT" if listing or request["method"] in ("PUT", "POST") else request["method"]


def connections(dsn: str) -> Counter[str]:
    """Of the appliance, by the first word of who holds them."""
    connection = psycopg2.connect(dsn)
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'video-appliance %'")
        return Counter(name.split()[1] for (name,) in cursor.fetchall())
    finally:
        connection.close()


def recording(directory: Path, minutes: int, size: str) -> Path:
    """A camera's picture: it moves and has noise, so that no rung is too cheap to be published. A minute has 58 s,
    so that it is one chunk.
    """
    minute, whole = directory / "minute.mp4", directory / f"recording{minutes}.mp4"
    ffmpeg = tools.find().ffmpeg
    make = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=12,noise=alls=12:allf=t", "-f", "lavfi", "-i", "sine=r=48000"]
    coding = ["-t", "58", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "28", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    if not minute.exists():
        subprocess.run([ffmpeg, "-v", "error", "-y", *make, *coding, str(minute)], check=True)
    again = ["-stream_loop", str(minutes - 1), "-i", str(minute), "-c", "copy"]
    subprocess.run([ffmpeg, "-v", "error", "-y", *again, str(whole)], check=True)
    return whole
