"""Rows, heartbeats and messages for the tests of reconcile, on the real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg2
import psycopg2.extras

from appliance.adapters import aws as factory
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.adapters.redis import Telemetry
from appliance.adapters.sqs import Doorbell
from appliance.domain.video import Lease, Worker

TTL = 60.0
WORKER = Worker("host-a", "host-a:0:7")


class OldTelemetry(Telemetry):
    """On a Redis that has been up for long: the tests' own has just started."""

    def up_seconds(self) -> float:
        super().up_seconds()
        return 1e6


class Rows:
    def __init__(self, dsn: str, redis_url: str, aws: Any, queue_url: str, doorbell: Doorbell | None = None) -> None:
        self.dsn, self._redis_url, self._aws, self.queue_url = dsn, redis_url, aws, queue_url
        self.database = Database(dsn, application_name="test")
        self.leases = Leases(self.database, lease_seconds=180, max_losses=5)
        self.sweeps = Sweeps(self.database, max_losses=5)
        self.telemetry = self.make_telemetry()
        self.doorbell = doorbell or self.make_doorbell()

    def make_telemetry(self, kind: type[Telemetry] = OldTelemetry) -> Telemetry:
        return kind(self._redis_url, timeout_seconds=2, heartbeat_ttl_seconds=TTL)

    def make_doorbell(self) -> Doorbell:
        client = factory.client("sqs", region=self._aws.region, endpoint_url=self._aws.endpoint_url)
        return Doorbell(client, self.queue_url)

    def sql(self, statement: str, *values: object) -> list[dict[str, Any]]:
        connection = psycopg2.connect(self.dsn, cursor_factory=psycopg2.extras.RealDictCursor)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def row(self, video_id: int) -> dict[str, Any]:
        return self.sql("SELECT * FROM video WHERE id = %s", video_id)[0]

    def waiting(self, tenant_id: int | None = 3) -> int:
        return self.leases.submit("sources/lecture.mp4", tenant_id)

    def held(self, tenant_id: int | None = 3) -> Lease:
        """A row under a fresh lease."""
        lease = self.leases.claim(self.waiting(tenant_id), WORKER, uuid4())
        assert isinstance(lease, Lease)
        return lease

    def expire(self, video_id: int) -> None:
        self.sql("UPDATE video SET leased_until = now() - interval '1 s' WHERE id = %s", video_id)

    def silence(self, video_id: int, seconds: float = TTL + 1) -> None:
        """The last renewal is this long ago; the lease is good for long yet."""
        self.sql("UPDATE video SET renewed_at = now() - make_interval(secs => %s) WHERE id = %s", seconds, video_id)

    def messages(self) -> list[int]:
        """Every video rung since the last look."""
        found = []
        while received := self.doorbell.receive(0):
            found.append(int(json.loads(received.body)["video_id"]))
            self.doorbell.delete(received)
        return sorted(found)

    def again(self) -> Rows:
        """The same world over connections of its own (boto3's clients may be shared)."""
        return Rows(self.dsn, self._redis_url, self._aws, self.queue_url, self.doorbell)


@contextmanager
def closing(rows: Rows) -> Iterator[Rows]:
    try:
        yield rows
    finally:
        rows.database.close()
        rows.telemetry.close()
