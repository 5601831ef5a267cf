"""Rows that nobody holds any more, and rows that nobody rang: what reconcile reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import losing
from appliance.domain.errors import Unavailable
from appliance.domain.video import Status


@dataclass(frozen=True)
class Tick:
    """Whether this host reconciles now. `since_last_seconds`: since anybody's last tick before, None when never."""

    won: bool
    since_last_seconds: float | None
    server_up_seconds: float


@dataclass(frozen=True)
class Held:
    """A row in PROCESSING, as read. `renewed_seconds_ago` None: its owner is not one of ours."""

    video_id: int
    tenant_id: int | None
    file_key: str
    token: UUID | None
    leased_by: str | None
    leased_until: datetime | None
    renewed_seconds_ago: float | None
    lease_expired: bool


@dataclass(frozen=True)
class Reclaimed:
    """A row that was taken from its owner. `status` is where it went, `token` the owner's, None when not ours."""

    video_id: int
    tenant_id: int | None
    file_key: str
    prev_leased_by: str | None
    prev_leased_until: datetime | None
    status: Status
    token: UUID | None


@dataclass(frozen=True)
class Ring:
    """A row to be rung for; `ring_count` counts the rings of this wait, this one included."""

    video_id: int
    tenant_id: int | None
    file_key: str
    ring_count: int


class Sweeps:
    """`max_losses`: a video that loses its owner this often without a newly finished chunk goes to FAILED."""

    def __init__(self, database: Database, *, max_losses: int) -> None:
        self._database = database
        self._max_losses = max_losses

    def win_tick(self, host: str, tick_seconds: float) -> Tick:
        """Stamp the tick if nobody did within `tick_seconds`. It only saves work: correctness never depends on it."""
        rows = self._database.run("win_tick", table=self._database.table, host=host, tick_seconds=tick_seconds)
        if not rows:
            raise Unavailable("postgres", "The tick's row is missing.", hint="Run `video-appliance migrate`.")
        (row,) = rows
        return Tick(**row)

    def reclaim_expired(self, limit: int) -> list[Reclaimed]:
        """Take at most `limit` rows whose lease ended or never had an end."""
        rows = self._database.run("reclaim_expired", limit=limit, receipt=None, **losing(self._max_losses))
        return [_reclaimed(row) for row in rows]

    def expired(self, limit: int) -> list[Held]:
        """What `reclaim_expired` would take; writes nowhere."""
        return [Held(**row) for row in self._database.run("expired", limit=limit)]

    def processing_page(self, after_id: int, limit: int) -> list[Held]:
        """The next rows in PROCESSING, by id; empty after the last."""
        return [Held(**row) for row in self._database.run("processing_page", after_id=after_id, limit=limit)]

    def reclaim_silent(self, held: Sequence[Held], witness_seconds: float | None) -> list[Reclaimed]:
        """Take those rows that the same owner still holds and did not renew for `witness_seconds` (None: strict)."""
        if not held:
            return []
        rows = self._database.run(
            "reclaim_silent",
            ids=[row.video_id for row in held],
            tokens=[row.token for row in held],
            untils=[row.leased_until for row in held],
            witness_seconds=witness_seconds,
            receipt=None,
            **losing(self._max_losses),
        )
        return [_reclaimed(row) for row in rows]

    def due_rings(self, limit: int, first_ring_seconds: float) -> list[Ring]:
        """Due rows that are to be rung now, and noted: again after `first_ring_seconds`, then twice that, …, 1 h."""
        rows = self._database.run("due_rings", limit=limit, first_ring_seconds=first_ring_seconds)
        return [Ring(**row) for row in rows]

    def ring_failed(self, video_ids: Sequence[int]) -> None:
        """These rings were not sent: the rows are due again at once."""
        if video_ids:
            self._database.run("ring_failed", video_ids=list(video_ids))


def _reclaimed(row: dict[str, Any]) -> Reclaimed:
    return Reclaimed(**{**row, "status": Status(row["status"])})
