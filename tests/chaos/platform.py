"""The platform of a chaos run: it submits, rings more or less, cancels and re-submits."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import psycopg2
import psycopg2.extras

from tests.chaos.history import PLATFORM

#: Of the fakes: most are as small as can be, because they are for mass.
MIX = {"short": 0.75, "spoken": 0.15, "long": 0.1}
RESUBMITTED, CANCELLED = 0.03, 0.01
#: The platform insists on its own writes through restarts of the server, this long.
INSIST_SECONDS = 60.0


class Platform:
    """`queue` rings without faults: what the endpoint does to messages it does to the appliance's own."""

    def __init__(self, dsn: str, sqs: Any, queue_url: str, seed: int, *, videos: int | None, real: int) -> None:
        self._dsn = dsn
        self._sqs = sqs
        self._queue_url = queue_url
        self._draw = random.Random(seed + 1)
        self._connection: Any = None
        self._videos = videos
        self._real = real
        self._next_real_at = 0.0
        #: Every id that was ever submitted, and those that are really encoded.
        self.submitted: set[int] = set()
        self.real: set[int] = set()
        self.resubmitted = 0
        self.cancelled = 0
        self.rung = 0

    @property
    def finished(self) -> bool:
        return self._videos is not None and len(self.submitted) >= self._videos

    def feed(self, wanted: int, share_done: float, *, beyond: bool = False) -> None:
        """Submit until `wanted` videos are under way. `share_done` of the run is over: so far went the real ones.

        `beyond` the number that was asked for, too.
        """
        under_way = self.count()["under way"]
        for _ in range(max(0, wanted - under_way)):
            if self.finished and not beyond:
                return
            self._submit(really=len(self.real) < min(self._real, 1 + share_done * 1.2 * self._real))
        if self.submitted and self._draw.random() < RESUBMITTED * max(1, wanted - under_way):
            self._touch(
                "UPDATE video SET status = 'UPLOADED' WHERE id = %s AND status IN ('READY', 'FAILED') RETURNING id"
            )
        if self.submitted and self._draw.random() < CANCELLED * max(1, wanted - under_way):
            self._cancel()

    def count(self) -> dict[str, int]:
        rows = self.query(
            "SELECT count(*) FILTER (WHERE status IN ('UPLOADED', 'PROCESSING')) AS under_way,"
            " count(*) FILTER (WHERE status = 'READY') AS ready, count(*) FILTER (WHERE status = 'FAILED') AS failed"
            " FROM video"
        )[0]
        return {"under way": rows["under_way"], "READY": rows["ready"], "FAILED": rows["failed"]}

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Insists: the statements of the platform are harmless to repeat."""
        deadline = time.monotonic() + INSIST_SECONDS
        while True:
            try:
                return self._once(statement, parameters)
            except psycopg2.Error:
                self._connection = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _once(self, statement: str, parameters: tuple[object, ...]) -> list[dict[str, Any]]:
        if self._connection is None:
            self._connection = psycopg2.connect(self._dsn, application_name=PLATFORM, connect_timeout=2)
            self._connection.autocommit = True
        with self._connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(statement, parameters)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def _submit(self, *, really: bool) -> None:
        video_id = len(self.submitted) + 1
        kind = "real" if really else self._draw.choices(list(MIX), list(MIX.values()))[0]
        ring = self._ringing(video_id)
        before = self._draw.random() < 0.05
        if before:  # the doorbell is faster than the commit (F03)
            ring()
        self.query(
            "INSERT INTO video (id, tenant_id, status, file_key) VALUES (%s, 1, 'UPLOADED', %s) ON CONFLICT DO NOTHING",
            video_id,
            f"sources/{kind}.mp4",
        )
        self.submitted.add(video_id)
        if really:
            self.real.add(video_id)
        if not before:
            ring()

    def _ringing(self, video_id: int) -> Callable[[], None]:
        """Once for most, never for some, several times or later for others."""
        times, delay = self._draw.choices([(1, 0), (0, 0), (4, 0), (1, 3)], [0.8, 0.08, 0.07, 0.05])[0]

        def ring() -> None:
            for _ in range(times):
                body = json.dumps({"video_id": video_id})
                self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=delay)
                self.rung += 1

        return ring

    def _touch(self, statement: str) -> None:
        video_id = self._draw.randint(1, len(self.submitted))
        if self.query(statement, video_id):
            self.resubmitted += 1
            self._ringing(video_id)()

    def _cancel(self) -> None:
        """As `cancel` does it: an end for a row that waits, a mark on one that is being encoded."""
        video_id = self._draw.randint(max(1, len(self.submitted) - 10), len(self.submitted))
        rows = self.query(
            "UPDATE video SET cancel_requested_at = CASE WHEN status = 'PROCESSING' THEN now() END,"
            " error_code = CASE WHEN status = 'UPLOADED' THEN 'cancelled' ELSE error_code END,"
            " run_after = CASE WHEN status = 'UPLOADED' THEN NULL ELSE run_after END,"
            " status = CASE WHEN status = 'UPLOADED' THEN 'FAILED' ELSE status END"
            " WHERE id = %s AND status IN ('UPLOADED', 'PROCESSING') RETURNING id",
            video_id,
        )
        self.cancelled += len(rows)
