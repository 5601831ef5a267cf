"""A host of the stories: the real supervisor with its real pool, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import yaml

from appliance.local.aws import Aws
from appliance.local.port import free_ports

#: Scaled down, so that a story about leases that expire takes seconds.
FAST: dict[str, Any] = {
    "database": {"connect_timeout_seconds": 2, "statement_timeout_seconds": 2},
    "redis": {"timeout_seconds": 0.5},
    "queue": {"wait_seconds": 1, "poll_seconds": 1},
    "lease": {
        "lease_seconds": 9,
        "renew_seconds": 1,
        "chunk_lease_seconds": 6,
        "heartbeat_ttl_seconds": 4,
        "grace_seconds": 1,
    },
    "reconcile": {"tick_seconds": 1, "first_ring_seconds": 2},
    "pool": {"encoders": 2, "drain_seconds": 20},
    "workspace": {"min_free_bytes": "64MiB", "min_free_memory_bytes": "64MiB"},
}


@dataclass
class World:
    """What the hosts of one story share."""

    dsn: str
    redis_url: str
    aws: Aws
    bucket: str
    queue_url: str

    def settings(self) -> dict[str, Any]:
        return {
            "database": {"dsn": self.dsn},
            "redis": {"url": self.redis_url},
            "aws": {"region": self.aws.region, "endpoint_url": self.aws.endpoint_url},
            "storage": {"bucket": self.bucket, "source_bucket": self.bucket},
            "queue": {"url": self.queue_url},
        }

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        connection = psycopg2.connect(self.dsn, cursor_factory=psycopg2.extras.RealDictCursor)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def upload(self, file: Path, *, tenant_id: int = 1) -> int:
        """What the platform does but ring: the object, then the row. Returns the video's id."""
        key = f"sources/{file.name}-{time.monotonic_ns()}"
        self.aws.client("s3").upload_file(str(file), self.bucket, key)
        row = self.query(
            "INSERT INTO video (tenant_id, status, file_key) VALUES (%s, 'UPLOADED', %s) RETURNING id", tenant_id, key
        )
        return int(row[0]["id"])

    def ring(self, video_id: int) -> None:
        self.aws.client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=json.dumps({"video_id": video_id}))

    def row(self, video_id: int) -> dict[str, Any]:
        return self.query("SELECT * FROM video WHERE id = %s", video_id)[0]

    def attempts(self, video_id: int) -> list[dict[str, Any]]:
        return self.query("SELECT * FROM video_attempt WHERE video_id = %s ORDER BY epoch", video_id)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every object below the prefix, as it lies there."""
        client = self.aws.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}


@dataclass
class Host:
    """A running supervisor. `log()` is what it and its encoders wrote: one JSON object a line."""

    process: subprocess.Popen[bytes]
    log_path: Path
    port: int

    def log(self) -> list[dict[str, Any]]:
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line.get("event") == name]

    def stop(self, timeout: float = 40) -> int:
        """SIGTERM, as systemd stops it; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


@contextmanager
def host(world: World, directory: Path, *, inside: Sequence[str] = (), **changes: dict[str, Any]) -> Iterator[Host]:
    """Run an appliance on the world until the block ends; then it is stopped, or killed if it will not stop.

    `inside` is a command that runs the one that follows it, in some namespace.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = next(free_ports())
    settings = world.settings()
    for section in (FAST, {"web": {"host": "127.0.0.1", "port": port}}, changes):
        for name, values in section.items():
            settings[name] = {**settings.get(name, {}), **values}
    settings["workspace"] = {**settings["workspace"], "directory": str(directory / "scratch")}
    path = directory / "appliance.yaml"
    path.write_text(yaml.safe_dump(settings))
    log_path = directory / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", "appliance", "run", "--config", str(path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "RUNTIME_DIRECTORY": str(directory)},
        )
    running = Host(process, log_path, port)
    try:
        yield running
    finally:
        try:
            running.stop()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def eventually(condition: Callable[[], Any], *, seconds: float = 60, every: float = 0.1) -> Any:
    """The first true answer of `condition`. A bound against hanging, not a measurement."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(every)
    raise AssertionError(f"did not become true within {seconds:.0f} s")
