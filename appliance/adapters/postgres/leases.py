"""Who owns a video. Every write that extends or ends ownership carries the lease's token, and its rows are counted."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from appliance.adapters.postgres.connection import AmbiguousCommit, Database
from appliance.domain.errors import ERROR_CODES, LeaseLost
from appliance.domain.retry import Decision
from appliance.domain.video import ClaimMiss, Lease, Status, Worker

#: Between two tries for a row that another transaction holds.
LOCKED_POLL_SECONDS = 0.05
#: Width of `leased_by`, the seed's column.
LEASED_BY_CHARACTERS = 64

#: The sentences that the statements write for videos nobody encodes any more.
CANCELLED = {"cancelled_reason": ERROR_CODES["cancelled"]}
CRASHED = {"crashed_reason": ERROR_CODES["crashed_encoder"]}

MISSES: dict[str, ClaimMiss] = {
    Status.PROCESSING: ClaimMiss.OWNED,
    Status.READY: ClaimMiss.READY,
    Status.FAILED: ClaimMiss.FAILED,
    Status.PENDING: ClaimMiss.PENDING,
}


@dataclass(frozen=True)
class Abandoned:
    """What a dead child's token held; `status` is where the video went."""

    video_id: int
    tenant_id: int | None
    file_key: str
    status: Status


class Leases:
    """`wait` sleeps between two tries for a locked row (a stop event's `wait` lets a drain through)."""

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        max_losses: int,
        locked_wait_seconds: float = 2.0,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._max_losses = max_losses
        self._locked_wait_seconds = locked_wait_seconds
        self._wait = wait or threading.Event().wait

    def claim(self, video_id: int, worker: Worker, token: UUID, *, tenant_id: int | None = None) -> Lease | ClaimMiss:
        """Own this video, or say why not. A row that another transaction holds is tried again for a while (F03).

        A claim whose answer was lost is asked again under the same token, which names its owner (F11); so may the
        caller, after Unavailable: the token may own the row.
        """
        deadline = time.monotonic() + self._locked_wait_seconds
        while True:
            rows = self._database.settle("claim", video_id=video_id, **self._taking(worker, token), tenant_id=tenant_id)
            if rows:
                return _lease(rows[0], worker, token)
            found = self._look(video_id, worker, token)
            if found is not ClaimMiss.LOCKED or time.monotonic() >= deadline:
                return found
            self._wait(LOCKED_POLL_SECONDS)

    def claim_next(self, worker: Worker, token: UUID) -> Lease | None:
        """Own the first due video, by priority and then by age; None when none waits."""
        try:
            rows = self._database.run("claim_next", **self._taking(worker, token), tenant_id=None)
        except AmbiguousCommit:
            # Asked again it would take a second video; the token tells whether it took one.
            rows = self._database.run("find_own", token=token)
        return _lease(rows[0], worker, token) if rows else None

    def renew(self, lease: Lease) -> bool:
        """Extend the lease; returns whether a cancel was asked for. Raises LeaseLost."""
        rows = self._database.run(
            "renew", video_id=lease.video_id, token=lease.token, lease_seconds=self._lease_seconds
        )
        if not rows:
            raise lost(lease)
        return bool(rows[0]["cancel_requested"])

    def complete(self, lease: Lease, *, hls_path: str, duration_seconds: float, receipt: dict[str, Any]) -> None:
        """Publish the stream: READY. Raises LeaseLost. Harmless to repeat, as are `fail` and `release` (F12)."""
        rows = self._database.settle(
            "complete",
            video_id=lease.video_id,
            token=lease.token,
            hls_path=hls_path,
            duration_seconds=duration_seconds,
            receipt=receipt,
        )
        if not rows:
            self._settled_before(lease, {"ready": Status.READY})

    def fail(self, lease: Lease, decision: Decision, *, receipt: dict[str, Any]) -> Status:
        """End the attempt as decided; a cancelled video is not tried again. Returns where it went. Raises LeaseLost."""
        rows = self._database.settle(
            "fail",
            video_id=lease.video_id,
            token=lease.token,
            error_code=decision.error_code,
            error_reason=decision.error_reason,
            retry_in_seconds=decision.retry_in_seconds,
            receipt=receipt,
            **CANCELLED,
        )
        if rows:
            return Status(rows[0]["status"])
        return self._settled_before(
            lease, {"failed": Status.FAILED, "cancelled": Status.FAILED, "retried": Status.UPLOADED}
        )

    def cancelled(self, lease: Lease, *, receipt: dict[str, Any]) -> Status:
        """The owner stopped because a cancel was asked for: FAILED `cancelled`. Raises LeaseLost."""
        return self.fail(lease, Decision("cancelled", ERROR_CODES["cancelled"], None), receipt=receipt)

    def release(self, lease: Lease, *, run_after_seconds: float = 0.0, reason: str, receipt: dict[str, Any]) -> Status:
        """Give the video back, charged with nothing, due in `run_after_seconds`. Raises LeaseLost."""
        rows = self._database.settle(
            "release",
            video_id=lease.video_id,
            token=lease.token,
            run_after_seconds=run_after_seconds,
            reason=reason,
            receipt=receipt,
            **CANCELLED,
        )
        if rows:
            return Status(rows[0]["status"])
        return self._settled_before(lease, {"released": Status.UPLOADED, "cancelled": Status.FAILED})

    def abandon(self, token: UUID) -> Abandoned | None:
        """The process that held this token is dead: counts a loss. None when the token holds nothing."""
        rows = self._database.settle("abandon", token=token, receipt=None, **losing(self._max_losses))
        if not rows:
            # Abandoned before, by a call whose answer was lost; what it is told about again is harmless.
            rows = [
                {**row, "status": Status.FAILED if row["error_code"] else Status.UPLOADED}
                for row in self._database.run("attempt", token=token)
                if row["outcome"] == "abandoned" and row["file_key"] is not None
            ]
        if not rows:
            return None
        row = rows[0]
        return Abandoned(row["video_id"], row["tenant_id"], row["file_key"], Status(row["status"]))

    def cancel(self, video_id: int) -> str:
        """`cancelled` (it waited), `requested` (its owner stops within a renewal), `ignored` (over) or `unknown`."""
        rows = self._database.settle("cancel", video_id=video_id, **CANCELLED)
        answers = {Status.UPLOADED: "cancelled", Status.PROCESSING: "requested"}
        return answers.get(rows[0]["status"], "ignored") if rows else "unknown"

    def resubmit(self, video_id: int) -> bool:
        """Encode a FAILED or READY video again, from now on; False when it is neither."""
        return bool(self._database.run("resubmit", video_id=video_id))

    def hand_in(self, video_id: int) -> bool:
        """A row that the platform made and whose source lies in S3 waits from now on; False when it is not PENDING."""
        return bool(self._database.run("hand_in", video_id=video_id))

    def submit(self, file_key: str, tenant_id: int | None, priority: int = 0) -> int:
        """A new row, due now, for a source that lies in S3; returns its video_id."""
        rows = self._database.run("submit", file_key=file_key, tenant_id=tenant_id, priority=priority)
        return int(rows[0]["video_id"])

    def try_claim_video(self, video_id: int, worker_name: str) -> bool:
        """The seed's verb: whether this worker owns the video now."""
        worker = Worker(os.uname().nodename, worker_name)
        return isinstance(self.claim(video_id, worker, uuid.uuid4()), Lease)

    def try_reclaim_video(self, video_id: int, force: bool = False) -> bool:
        """The seed's verb: take a video from an owner whose lease expired, or from any when forced."""
        return bool(
            self._database.run("try_reclaim", video_id=video_id, force=force, receipt=None, **losing(self._max_losses))
        )

    def _taking(self, worker: Worker, token: UUID) -> dict[str, Any]:
        return {
            "token": token,
            "leased_by": worker.name[:LEASED_BY_CHARACTERS],
            "host": worker.host,
            "worker": worker.name,
            "lease_seconds": self._lease_seconds,
        }

    def _look(self, video_id: int, worker: Worker, token: UUID) -> Lease | ClaimMiss:
        """What stands in the way of a claim that took no row."""
        rows = self._database.run("look", video_id=video_id, token=token)
        if not rows:
            return ClaimMiss.UNKNOWN
        row = rows[0]
        if row["mine"]:
            return _lease(row, worker, token)
        if row["locked"]:
            return ClaimMiss.LOCKED
        if row["status"] == Status.UPLOADED:
            # Free and due by now: whoever held it has just let go.
            return ClaimMiss.LOCKED if row["due"] else ClaimMiss.NOT_DUE
        return MISSES.get(row["status"], ClaimMiss.UNKNOWN)

    def _settled_before(self, lease: Lease, outcomes: Mapping[str, Status]) -> Status:
        """My write changed no row: either it had worked before and the answer was lost, or the lease is lost."""
        for row in self._database.run("attempt", token=lease.token):
            if row["outcome"] in outcomes:
                return outcomes[row["outcome"]]
        raise lost(lease)


def losing(max_losses: int) -> dict[str, Any]:
    """Parameters of every statement that takes a video from an owner who cannot say why it is gone."""
    return {"max_losses": max_losses, **CANCELLED, **CRASHED}


def _lease(row: Mapping[str, Any], worker: Worker, token: UUID) -> Lease:
    return Lease(
        video_id=row["video_id"],
        tenant_id=row["tenant_id"],
        file_key=row["file_key"],
        token=token,
        epoch=row["epoch"],
        worker=worker,
        failure_count=row["failure_count"],
        loss_count=row["loss_count"],
        finished_epoch=row["finished_epoch"],
        waited_seconds=row["waited_seconds"] or 0.0,
    )


def lost(lease: Lease) -> LeaseLost:
    """What every write raises that changed no row because the video's token is another one."""
    return LeaseLost(f"Video {lease.video_id} is not this worker's any more (epoch {lease.epoch}): nothing is written.")
