"""What the pipeline needs of its surroundings: the appliance has one implementation of each, `encode FILE` another."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Protocol

from appliance.domain import events
from appliance.domain.plan import Plan
from appliance.domain.receipt import Receipt
from appliance.domain.stored import Stored
from appliance.domain.video import ChunkLease, DoneChunk, Lease


class Task(Protocol):
    """What work on chunks sees of its process (job.py, or local.py without services)."""

    receipt: Receipt

    def check(self) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def may_begin(self, expected_seconds: float | None) -> None: ...

    def report_due(self, step: str) -> bool: ...

    def warn(self, sentence: str) -> None: ...

    def announce(self, event: events.Event) -> None: ...

    def hold(self, chunk: ChunkLease) -> None: ...

    def let_go(self, chunk: ChunkLease) -> None: ...


class Job(Task, Protocol):
    """What the pipeline sees: a task that owns a video."""

    lease: Lease

    def progress(
        self,
        percent: float,
        step: str,
        *,
        step_index: int,
        step_total: int,
        step_percent: float,
        speed: float | None = None,
        fps: float | None = None,
        remaining_seconds: float | None = None,
        chunk: int | None = None,
    ) -> None: ...


class ChunkStore(Protocol):
    """Who holds which chunk (adapters/postgres/chunks.py, or a dictionary without services)."""

    def known_plan(self, lease: Lease, recipe: str) -> Plan | None: ...

    def adopt(self, lease: Lease, plan: Plan, build: str) -> None: ...

    def claim_chunk(self, lease: Lease, token: uuid.UUID) -> ChunkLease | None: ...

    def done(self, chunk: ChunkLease, objects: dict[str, Any]) -> None: ...

    def release_chunk(self, chunk: ChunkLease, *, failed: bool = False) -> None: ...

    def redo(self, lease: Lease, number: int) -> None: ...

    def done_chunks(self, lease: Lease, plan_fingerprint: str, *, whole: bool = True) -> list[DoneChunk]: ...


class Storage(Protocol):
    """Where media goes: S3 in the appliance, a directory for `encode`."""

    def put_file(self, key: str, path: Path, *, content_type: str, cache_control: str) -> None: ...

    def put_bytes(
        self, key: str, data: bytes, *, content_type: str, cache_control: str, gzip: bool = False
    ) -> None: ...

    def read(self, key: str, span: tuple[int, int] | None = None) -> Stored: ...

    def sizes(self, prefix: str) -> dict[str, int]: ...
