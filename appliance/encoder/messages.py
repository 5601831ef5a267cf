"""The queue as one encoder sees it: what came in, whether it is acknowledged, what becomes of it.

Nothing here raises: SQS is a doorbell, and an encoder does without one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import structlog

from appliance.adapters.sqs import Doorbell, Received
from appliance.config import Queue
from appliance.domain.errors import Unavailable, UnreadableMessage
from appliance.domain.message import LATER_SECONDS, Message, Settlement, parse
from appliance.domain.video import Lease
from appliance.encoder.drain import Drain
from appliance.encoder.outage import Outage
from appliance.encoder.parent import Parent
from appliance.encoder.poll import Poll
from appliance.encoder.visibility import hidden

#: The longest poll without fast-ack, for a drain waits for its end.
SLICE_SECONDS = 5.0
#: What the log shows of a body that nobody can read.
SHOWN_CHARACTERS = 200


class Messages:
    """One log line per outage (F10); the supervisor hears of it with every sign of life."""

    def __init__(self, doorbell: Doorbell, settings: Queue, parent: Parent, drain: Drain) -> None:
        self._doorbell = doorbell
        self._parent = parent
        self._drain = drain
        longest = settings.wait_seconds if settings.fast_ack else min(settings.wait_seconds, SLICE_SECONDS)
        self._wait_seconds = min(longest, settings.poll_seconds)
        self._log = structlog.get_logger()
        self._outage = Outage("sqs", longest_wait_seconds=settings.poll_seconds)
        self._receive_at = 0.0
        #: Begun and not answered when we left it.
        self._poll: Poll[Received | None] | None = None
        self.fast_ack = settings.fast_ack

    @property
    def due_seconds(self) -> float:
        """How long SQS is left alone after a call without an answer."""
        return max(0.0, self._receive_at - time.monotonic())

    def receive(self, longest_seconds: float, distracted: Callable[[], bool]) -> Received | None:
        """One message, or None after an empty poll of so many seconds at most; None at once while SQS is left alone.

        With fast-ack the poll goes on by itself at a SIGTERM, or once we are `distracted`; then it is come back to.
        Without, its end is waited for: a message must be made visible again.
        """
        if self.due_seconds:
            return None
        limit = longest_seconds if self._poll else math.inf
        poll = self._poll or Poll(partial(self._doorbell.receive, min(longest_seconds, self._wait_seconds)))
        leaving = distracted if self.fast_ack else lambda: False
        if not poll.answered(self._drain, self._parent, leave=self.fast_ack, seconds=limit, distracted=leaving):
            self._poll = poll
            return None
        self._poll = None
        try:
            received = poll.take()
        except Unavailable as error:
            self._failed(error)
            return None
        self._answered()
        return received

    def read(self, received: Received) -> Message | None:
        """The message; an unreadable one is counted, kept where there is a queue for it, and deleted (F09)."""
        try:
            return parse(received.body)
        except UnreadableMessage as error:
            reason = error.sentence
        self._parent.count("unreadable_messages")
        self._log.warning("SQS_MESSAGE_UNREADABLE", error=reason, body=received.body[:SHOWN_CHARACTERS])
        if self._try(lambda: self._doorbell.dead_letter(received, reason)):
            self._try(lambda: self._doorbell.delete(received))
        return None

    def acknowledge(self, received: Received) -> None:
        """With fast-ack: delete before the claim. When that fails, it comes back and finds the row owned (F06)."""
        if not self.fast_ack:
            self._log.info("VIDEO_FAST_ACK_SKIPPED", reason="VIDEO_FAST_ACK=0")
        elif self._try(lambda: self._doorbell.delete(received)):
            self._log.info("VIDEO_FAST_ACK_APPLIED", receipt_handle_suffix=received.receipt_handle_suffix)
        else:
            self._log.warning("VIDEO_FAST_ACK_FAILED", receipt_handle_suffix=received.receipt_handle_suffix)

    def hidden(self, received: Received) -> AbstractContextManager[None]:
        """Keeps others from a message that is not acknowledged yet."""
        return nullcontext() if self.fast_ack else hidden(self._doorbell, received)

    def settle(self, received: Received, settlement: Settlement) -> None:
        """What fails here comes back by itself, and the row answers it."""
        calls: dict[Settlement, Callable[[], object]] = {
            Settlement.DELETE: lambda: self._doorbell.delete(received),
            Settlement.RETURN: lambda: self._doorbell.visibility(received, 0),
            Settlement.LATER: lambda: self._doorbell.visibility(received, LATER_SECONDS),
        }
        if settlement is Settlement.NOTHING or self._try(calls[settlement]):
            self._log.info("SQS_MESSAGE_SETTLED", settlement=str(settlement))

    def ring(self, lease: Lease) -> None:
        """Somebody shall look at this video. The row is due to be rung, so a send that fails is the sweep's."""
        message = Message(lease.video_id, lease.tenant_id, lease.file_key)
        if self._try(lambda: self._doorbell.ring(message)):
            self._parent.count("rings", "release")
        else:
            self._parent.count("ring_errors")

    def _try(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except Unavailable as error:
            self._failed(error)
            return False
        self._answered()
        return True

    def _failed(self, error: Unavailable) -> None:
        self._receive_at = time.monotonic() + self._outage.failed(error)
        self._parent.saw("sqs", answers=False)
        self._parent.count("dependency_errors", "sqs")

    def _answered(self) -> None:
        self._outage.answered()
        self._parent.saw("sqs", answers=True)
