"""One encoder: receive, acknowledge, claim, work, settle; one video at a time, until a signal asks for the end.

Whatever a message says, the row decides, and the end of a job is in the row before the message is settled.
"""

from __future__ import annotations

import math
import os
import random
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from appliance.adapters.postgres.leases import Leases
from appliance.adapters.redis import Telemetry
from appliance.adapters.sqs import Received
from appliance.domain.errors import (
    ERROR_CODES,
    ApplianceError,
    Cancelled,
    ChunkLost,
    Draining,
    LeaseLost,
    NoRoom,
    Refused,
    Transient,
    Unavailable,
)
from appliance.domain.events import EXIT_DONE, EXIT_HEARTBEAT, Booted, Claimed, Claiming, NotClaimed, Settled
from appliance.domain.message import Message, Outcome, Settlement, settle
from appliance.domain.retry import JITTER, Decision, decide
from appliance.domain.video import ClaimMiss, Lease, Status, Worker
from appliance.encoder.assist import Assistant
from appliance.encoder.database import FRESH_SECONDS, Access
from appliance.encoder.drain import Drain
from appliance.encoder.heartbeat import Heartbeat
from appliance.encoder.job import Job
from appliance.encoder.lookout import Lookout
from appliance.encoder.messages import Messages
from appliance.encoder.parent import Parent
from appliance.encoder.pipeline import Published
from appliance.encoder.workspace import Workspace
from appliance.log import job_fields

Work = Callable[[Job], Published]
Receipt = dict[str, Any]

#: A job that another dependency or this host's disk refused is due again after this.
LATER_SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """How a job ended. `lease` is None when nothing was claimed; `miss` is None when the database did not say why."""

    outcome: Outcome
    lease: Lease | None = None
    miss: ClaimMiss | None = None
    error_code: str | None = None
    error_reason: str = ""
    #: The video is due at once, so somebody should be rung.
    due: bool = False


Write = Callable[[Receipt], Ended]


class Encoder:
    """`work` turns a claimed video into a published stream, `assist` helps with somebody else's; None helps nobody.

    Every other argument belongs to this thread alone.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        max_attempts: int,
        access: Access,
        leases: Leases,
        messages: Messages,
        telemetry: Telemetry,
        workspace: Workspace,
        heartbeat: Heartbeat,
        parent: Parent,
        drain: Drain,
        lookout: Lookout,
        work: Work,
        assist: Assistant | None,
    ) -> None:
        self._worker = worker
        self._max_attempts = max_attempts
        self._access = access
        self._leases = leases
        self._messages = messages
        self._telemetry = telemetry
        self._workspace = workspace
        self._heartbeat = heartbeat
        self._parent = parent
        self._drain = drain
        self._lookout = lookout
        self._work = work
        self._assist = assist
        self._log = structlog.get_logger()
        self._lack = ""
        # Rows may wait that nobody rang for: look at them before the first long poll.
        self._poll_seconds = 0.0

    def run(self) -> int:
        """Returns the exit status of the process."""
        self._parent.announce(Booted(os.getpid()))
        while not self._drain.asked and not self._heartbeat.stuck:
            self._parent.alive()
            if not (self._access.answers() and self._admits()):
                self._drain.wait(FRESH_SECONDS)
            elif received := self._messages.receive(self._poll_seconds, self._distracted):
                self._on_message(received)
            elif not self._drain.asked and self._admits():
                self._on_silence()
                self._drain.wait(min(self._poll_seconds, self._messages.due_seconds))
        return EXIT_HEARTBEAT if self._heartbeat.stuck else EXIT_DONE

    def _on_message(self, received: Received) -> None:
        """Acknowledge, claim, work, settle: the life of a message."""
        with _bound(None, None, received.request_id):
            message = self._messages.read(received)
            if message is None:
                return
            bind_contextvars(video_id=message.video_id, tenant_id=message.tenant_id)
            self._log.info("SQS_MESSAGE_RECEIVED", receive_count=received.receive_count)
            if self._drain.asked or not self._access.answers():
                self._hand_back(received)
                return
            self._messages.acknowledge(received)
            with self._messages.hidden(received):
                ended = self._claim(message)
            self._finish(ended, received)

    def _on_silence(self) -> None:
        """Nobody rang: take the first due row, so that a dead SQS costs a poll interval; without one, help others.

        Whoever has just done something looks for more; of those that idle one does.
        """
        fresh = not self._poll_seconds
        if not (fresh or self._lookout.ours()):
            self._poll_seconds = math.inf
            return
        with _bound(None, None, None):
            ended = self._claim_next()
            if ended is not None:
                self._finish(ended, None)
        if ended is None:
            helps = self._assist and (fresh or self._assist.wanted())
            self._poll_seconds = self._assist() if self._assist and helps else math.inf

    def _distracted(self) -> bool:
        """A chunk that wants help is not kept waiting for a long poll's end, nor a row for whoever is to look now."""
        looked = self._lookout.held
        return self._lookout.ours() and bool(not looked or (self._assist and self._assist.wanted()))

    def _hand_back(self, received: Received) -> None:
        """Not for us: with fast-ack it is left to come back by itself, for visibility is never touched there (F37)."""
        self._messages.settle(received, Settlement.NOTHING if self._messages.fast_ack else Settlement.RETURN)

    def _claim(self, message: Message) -> Ended:
        token = uuid.uuid4()
        self._parent.announce(Claiming(token))
        claim = partial(self._leases.claim, message.video_id, self._worker, token, tenant_id=message.tenant_id)
        try:
            claimed = self._access.insist(claim, give_up=lambda: self._drain.asked)
        except Unavailable:
            # Whatever the token took, the supervisor abandons it as we leave: it was announced.
            return Ended(Outcome.NOT_CLAIMED)
        if isinstance(claimed, Lease):
            return self._own(claimed)
        self._parent.announce(NotClaimed(token))
        return self._missed(claimed)

    def _claim_next(self) -> Ended | None:
        token = uuid.uuid4()
        self._parent.announce(Claiming(token))
        try:
            lease = self._leases.claim_next(self._worker, token)
        except Unavailable:
            self._forget(token)
            return None
        if lease is None:
            self._parent.announce(NotClaimed(token))
            return None
        return self._own(lease)

    def _forget(self, token: uuid.UUID) -> None:
        """Nobody knows whether the claim took a row. If it did, that row goes back (F11)."""
        try:
            self._access.insist(lambda: self._leases.abandon(token), give_up=lambda: self._drain.asked)
        except Unavailable:
            return  # we leave, and the supervisor abandons what was announced
        self._parent.announce(NotClaimed(token))

    def _missed(self, miss: ClaimMiss) -> Ended:
        if miss is ClaimMiss.READY:
            self._log.info("VIDEO_ALREADY_READY_SKIP")
            return Ended(Outcome.ALREADY_READY, miss=miss)
        self._log.info("CLAIM_MISSED", reason=str(miss))
        return Ended(Outcome.NOT_CLAIMED, miss=miss)

    def _own(self, lease: Lease) -> Ended:
        """Work on a claimed video and write its end to the row, with the heartbeat beating all the time."""
        self._lookout.leave()
        bind_contextvars(video_id=lease.video_id, tenant_id=lease.tenant_id, lease_epoch=lease.epoch)
        self._parent.announce(Claimed(lease.token, lease.video_id, lease.tenant_id, lease.epoch, lease.waited_seconds))
        self._log.info("VIDEO_CLAIMED", leased_by=lease.worker.name, pid=os.getpid())
        job = Job(lease, drain=self._drain, parent=self._parent, telemetry=self._telemetry)
        with self._heartbeat.beating(job):
            return self._settle(job, self._attempt(job))

    def _attempt(self, job: Job) -> Write:
        """Do the work; returns how its end is to be written."""
        lease = job.lease
        try:
            return partial(self._complete, lease, self._work(job))
        except (ChunkLost, Draining) as error:
            return partial(self._release, lease, error, 0.0)
        except LeaseLost as error:
            job.lose(error.sentence)
            return lambda _: Ended(Outcome.LOST, lease)
        except Cancelled as error:
            return partial(self._fail, lease, Decision(error.code, ERROR_CODES[error.code], None))
        except Refused as error:
            return self._charge(lease, error)
        except (NoRoom, Unavailable) as error:
            # No fault of this video: charged to nothing.
            return partial(self._release, lease, error, LATER_SECONDS * random.uniform(1 - JITTER, 1 + JITTER))
        except ApplianceError as error:
            return self._charge(lease, error)
        except Exception:  # noqa: BLE001 - a mistake of ours ends one job, not the encoder
            self._log.exception("INTERNAL_ERROR")
            mistake = Transient(ERROR_CODES["internal_error"], code="internal_error")
            return partial(self._fail, lease, self._decide(lease, mistake))

    def _charge(self, lease: Lease, error: ApplianceError) -> Write:
        self._log.warning("JOB_ERROR", error=error.sentence, hint=error.hint, details=error.details)
        return partial(self._fail, lease, self._decide(lease, error))

    def _decide(self, lease: Lease, error: ApplianceError) -> Decision:
        jitter = random.uniform(-1, 1)
        return decide(error, failure_count=lease.failure_count, max_attempts=self._max_attempts, jitter=jitter)

    def _settle(self, job: Job, write: Write) -> Ended:
        """Write the end, however long the database needs: an encode must not be lost to a dropped connection (F25)."""
        job.settling = True
        lease, receipt = job.lease, job.bill()
        try:
            ended = self._access.insist(lambda: write(receipt), give_up=lambda: self._drain.over)
        except LeaseLost as error:
            job.lose(error.sentence)
            ended = Ended(Outcome.LOST, lease)
        except Unavailable as error:
            # Not announced as settled, so the supervisor abandons the token as we leave.
            self._log.error("SETTLE_FAILED", error=error.sentence, hint=error.hint)
            return Ended(Outcome.LOST, lease)
        self._parent.announce(Settled(lease.token, lease.video_id, ended.outcome, ended.error_code, receipt, job.step))
        return ended

    def _complete(self, lease: Lease, published: Published, receipt: Receipt) -> Ended:
        path, seconds = published.hls_path, published.duration_seconds
        self._leases.complete(lease, hls_path=path, duration_seconds=seconds, receipt=receipt)
        return Ended(Outcome.OK, lease)

    def _fail(self, lease: Lease, decision: Decision, receipt: Receipt) -> Ended:
        status = self._leases.fail(lease, decision, receipt=receipt)
        # A retry that went to FAILED met the mark of a cancel.
        marked = status is Status.FAILED and decision.retry_in_seconds is not None
        if marked or decision.error_code == Cancelled.code:
            return Ended(Outcome.CANCELLED, lease, error_code=Cancelled.code)
        return Ended(Outcome.FAILED, lease, error_code=decision.error_code, error_reason=decision.error_reason)

    def _release(self, lease: Lease, why: ApplianceError, run_after_seconds: float, receipt: Receipt) -> Ended:
        status = self._leases.release(lease, run_after_seconds=run_after_seconds, reason=why.sentence, receipt=receipt)
        if status is Status.FAILED:
            return Ended(Outcome.CANCELLED, lease, error_code=Cancelled.code)
        return Ended(Outcome.RELEASED, lease, error_reason=why.sentence, due=run_after_seconds <= 0)

    def _finish(self, ended: Ended, received: Received | None) -> None:
        """The row is written; now the message, and the last lines of the job. The next look is at once."""
        self._poll_seconds = 0.0
        error = {"error_code": ended.error_code, "error_reason": ended.error_reason} if ended.error_reason else {}
        self._log.info("handler.handle() returned", result=str(ended.outcome), **error)
        acknowledged = self._messages.fast_ack or received is None
        if received is not None:
            self._messages.settle(received, settle(ended.outcome, fast_ack=acknowledged, miss=ended.miss))
        if ended.lease is not None and ended.due and acknowledged:
            self._messages.ring(ended.lease)
        if ended.outcome is Outcome.OK:
            self._log.info("SQS_JOB_COMPLETED")
        elif ended.outcome is Outcome.FAILED:
            self._log.error("SQS_JOB_FAILED", **error)

    def _admits(self) -> bool:
        """Whether this host has room for a job (F35); one log line when that changes."""
        lack = self._workspace.lack()
        if not lack:
            self._workspace.sweep()
        if lack and not self._lack:
            self._log.warning("ADMISSION_CLOSED", reason=lack)
        elif self._lack and not lack:
            self._log.info("ADMISSION_OPEN")
        self._lack = lack
        return not lack


def _bound(video_id: int | None, tenant_id: int | None, request_id: str | None) -> AbstractContextManager[None]:
    """What stands on every line of a job; the claim fills in what it learns."""
    return job_fields(video_id=video_id, tenant_id=tenant_id, request_id=request_id, lease_epoch=None)
