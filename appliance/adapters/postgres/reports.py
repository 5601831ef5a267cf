"""What people are shown of the database. Nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.statements import indexes
from appliance.domain.video import Status


@dataclass(frozen=True)
class Backlog:
    """`by_status`: rows in UPLOADED and in PROCESSING, and no others: nobody counts a million finished videos.

    `oldest_due_seconds`: how long the oldest due row has waited, None when none waits. `assisting`: encoders that help
    with a video which another one owns.
    """

    by_status: dict[str, int]
    oldest_due_seconds: float | None
    assisting: int = 0


@dataclass(frozen=True)
class AtWork:
    """Who works on what in the fleet. `workers`: as in `leased_by`, each once; `hosts`: name → seconds since it last
    began or ended an attempt, of the last hour; `videos`: those asked for, each with owner, tenant and chunks.
    """

    workers: list[str]
    hosts: dict[str, float]
    videos: list[dict[str, Any]]


class Reports:
    """Rows come as dictionaries of column → value; times are datetimes, tokens UUIDs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def backlog(self) -> Backlog:
        """What waits and what runs."""
        row = self._database.run("backlog")[0]
        counts = {str(Status.UPLOADED): row["uploaded"], str(Status.PROCESSING): row["processing"]}
        return Backlog(counts, row["oldest_due_seconds"], row["assisting"])

    def failures(self, seconds: float) -> int:
        """Attempts that ended with FAILED in this time, on any host."""
        return int(self._database.run("failures", seconds=seconds)[0]["failures"])

    def show(self, video_id: int) -> dict[str, Any] | None:
        """The row, with `attempts` (oldest first) and `chunks` (of the current plan); None when there is none."""
        rows = self._database.run("video", video_id=video_id)
        if not rows:
            return None
        attempts = self._database.run("attempts", video_id=video_id)
        chunks = self._database.run("chunks_of", video_id=video_id)
        return {**rows[0], "attempts": attempts, "chunks": chunks}

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The attempts that began last, latest first, with their receipts and what the row says now."""
        return self._database.run("recent", limit=limit)

    def newest(self, limit: int, status: Status | None = None) -> list[dict[str, Any]]:
        """The videos with the highest ids, or of one status, and of each its last attempt (None where it had none)."""
        return self._database.run("newest", limit=limit, status=status)

    def server(self) -> dict[str, Any]:
        """Its version, its limits, whether it takes writes, and its clock as Unix time."""
        return self._database.run("server")[0]

    def tables(self) -> list[dict[str, Any]]:
        """The appliance's tables: whether each is there, its columns, and the privileges that are missing on it."""
        table = self._database.table
        names = [table, f"{table}_attempt", f"{table}_plan", f"{table}_chunk", "reconcile_tick"]
        return self._database.run("tables", tables=names, plans=f"{table}_plan")

    def applied(self) -> set[str]:
        """The names of the migrations that were applied."""
        return {row["name"] for row in self._database.run("migrate_applied")}

    def columns(self) -> dict[str, dict[str, Any]]:
        """The video table's columns: `type` as PostgreSQL says it, `characters` it may hold (None: any number)."""
        rows = self._database.run("columns", table=self._database.table)
        return {row["name"]: {"type": row["type"], "characters": row["characters"]} for row in rows}

    def indexes(self) -> list[dict[str, Any]]:
        """Every index of ours: its `name`, the schema's `file` that makes it, whether it is `there` and `valid`."""
        made = indexes(self._database.table)
        rows = self._database.run("indexes", names=list(made))
        return [{**row, "file": made[row["name"]]} for row in rows]

    def lease_indexes(self) -> list[str]:
        """Indexes on the video table that hold leased_until."""
        return [row["name"] for row in self._database.run("lease_indexes", table=self._database.table)]

    def at_work(self, video_ids: list[int]) -> AtWork:
        """The fleet now, and the chunk maps of these videos; one statement, as cheap as what runs is little."""
        return AtWork(**self._database.run("at_work", video_ids=video_ids)[0])
