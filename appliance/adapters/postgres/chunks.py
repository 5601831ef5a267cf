"""Who encodes which chunk of a video's current plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import lost
from appliance.domain.errors import ChunkLost
from appliance.domain.plan import PLAN_REVISION, Plan
from appliance.domain.video import ChunkLease, DoneChunk, Lease, Worker

#: A chunk that this many assistants did not survive is left to the owner (F54).
MAX_ASSISTANTS = 2


@dataclass(frozen=True)
class Assist:
    """A chunk of somebody else's video, and all that is needed to encode it."""

    chunk: ChunkLease
    plan: Plan
    tenant_id: int | None
    file_key: str
    #: The owner's lease_epoch.
    epoch: int


class Chunks:
    """A chunk's lease is renewed by whoever encodes it, owner or assistant."""

    def __init__(self, database: Database, *, chunk_lease_seconds: float) -> None:
        self._database = database
        self._chunk_lease_seconds = chunk_lease_seconds

    def known_plan(self, lease: Lease, recipe: str) -> Plan | None:
        """The plan that an earlier owner of the video made by this recipe."""
        rows = self._database.run("known_plan", video_id=lease.video_id, recipe=recipe)
        return Plan.from_json(rows[0]["plan"]) if rows else None

    def adopt(self, lease: Lease, plan: Plan, build: str = "") -> None:
        """This is the plan that the video is encoded by; chunks that are DONE stay so. Raises LeaseLost.

        `build` names the owner's ffmpeg: only assistants with the same are given chunks.
        """
        rows = self._database.settle(
            "adopt",
            video_id=lease.video_id,
            token=lease.token,
            plan=plan.fingerprint,
            build=build,
            body=plan.to_json(),
            numbers=[chunk.number for chunk in plan.chunks],
        )
        if not rows:
            raise lost(lease)

    def claim_chunk(self, lease: Lease, token: UUID) -> ChunkLease | None:
        """The owner's next chunk, lowest number first; None when none is free or the video is not ours any more."""
        rows = self._database.settle(
            "claim_chunk",
            video_id=lease.video_id,
            owner_token=lease.token,
            worker=lease.worker.name,
            assisted=False,
            **self._taking(token),
        )
        return _chunk(rows[0], token) if rows else None

    def claim_assist(self, worker: Worker, token: UUID, build: str = "") -> Assist | None:
        """A chunk to help with; None when there is none, or when a video waits for an encoder of its own.

        After Unavailable the token may hold a chunk: abandon it.
        """
        rows = self._database.run(
            "claim_assist", worker=worker.name, assisted=True, **_helping(build), **self._taking(token)
        )
        if not rows:
            return None
        chunk = _chunk(rows[0], token)
        found = self._database.run("plan", video_id=chunk.video_id, plan=chunk.plan)[0]
        return Assist(
            chunk, Plan.from_json(found["plan"]), found["tenant_id"], found["file_key"], epoch=rows[0]["epoch"]
        )

    def help_wanted(self, build: str = "") -> bool:
        """Whether a chunk is free for an assistant, or soon may be."""
        return bool(self._database.run("help_wanted", **_helping(build))[0]["wanted"])

    def renew_chunk(self, chunk: ChunkLease) -> None:
        """Extend the chunk's lease. Raises LeaseLost, also when READY, FAILED, a cancel or a new plan ended it."""
        rows = self._database.run("renew_chunk", **_own(chunk), chunk_lease_seconds=self._chunk_lease_seconds)
        if not rows:
            raise _chunk_lost(chunk)

    def done(self, chunk: ChunkLease, objects: dict[str, Any]) -> None:
        """The chunk lies in S3 as `objects` says. Raises LeaseLost. Harmless to repeat."""
        if self._database.settle("done", **_own(chunk), objects=objects):
            return
        found = self._database.run("chunk", video_id=chunk.video_id, plan=chunk.plan, number=chunk.number)
        if not any(row["state"] == "DONE" and row["token"] == chunk.token for row in found):
            raise _chunk_lost(chunk)

    def release_chunk(self, chunk: ChunkLease, *, failed: bool = False) -> None:
        """Give the chunk back unfinished; `failed`: the chunk itself may be why. Raises LeaseLost."""
        if not self._database.run("release_chunk", **_own(chunk), failed=failed):
            raise _chunk_lost(chunk)

    def abandon_chunk(self, token: UUID, *, died: bool = True) -> bool:
        """The process that held this token is dead, or never learnt what it held; False when it holds nothing."""
        return bool(self._database.settle("abandon_chunk", token=token, died=died))

    def redo(self, lease: Lease, number: int) -> None:
        """A finished chunk is to be encoded again, because its proof failed. Raises LeaseLost."""
        rows = self._database.settle("redo", video_id=lease.video_id, owner_token=lease.token, number=number)
        if not rows:
            raise lost(lease)

    def done_chunks(self, lease: Lease, plan_fingerprint: str, *, whole: bool = True) -> list[DoneChunk]:
        """The finished chunks of a plan, by number; without their objects unless `whole`."""
        rows = self._database.run("done_chunks", video_id=lease.video_id, plan=plan_fingerprint, whole=whole)
        return [DoneChunk(**row) for row in rows]

    def _taking(self, token: UUID) -> dict[str, Any]:
        return {"token": token, "chunk_lease_seconds": self._chunk_lease_seconds}


def _helping(build: str) -> dict[str, Any]:
    return {"build": build, "revision": PLAN_REVISION, "max_assistants": MAX_ASSISTANTS}


def _own(chunk: ChunkLease) -> dict[str, Any]:
    return {"video_id": chunk.video_id, "plan": chunk.plan, "number": chunk.number, "token": chunk.token}


def _chunk(row: dict[str, Any], token: UUID) -> ChunkLease:
    return ChunkLease(row["video_id"], row["plan"], row["number"], token, row["attempts"])


def _chunk_lost(chunk: ChunkLease) -> ChunkLost:
    return ChunkLost(f"Chunk {chunk.number} of video {chunk.video_id} is not this worker's any more.")
