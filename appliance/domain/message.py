"""The SQS message and what becomes of it.

A message is a doorbell: "look at video 7". Only `video_id` is required, the row decides the rest, and unknown keys
are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from appliance.domain.errors import UnreadableMessage
from appliance.domain.video import ClaimMiss

#: A doorbell takes about 200 bytes; anything beyond this is not one of ours.
MAX_BODY_BYTES = 16 * 1024
#: bigint's largest value: a video_id beyond it can be no row's.
MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class Message:
    """A readable doorbell. `attempt` counts the rings of one wait, for people who read the queue."""

    video_id: int
    tenant_id: int | None = None
    file_key: str = ""
    tenant_code: str = ""
    created_at: str | float | None = None
    attempt: int = 1

    def body(self) -> str:
        """The message as JSON, as the platform's own producer writes it."""
        return json.dumps(
            {
                "video_id": self.video_id,
                "tenant_id": self.tenant_id,
                "file_key": self.file_key,
                "tenant_code": self.tenant_code,
                "created_at": self.created_at,
                "attempt": self.attempt,
            },
            separators=(",", ":"),
        )


def parse(body: str) -> Message:
    """Read a body, or raise UnreadableMessage with the reason in one sentence."""
    if len(body.encode(errors="replace")) > MAX_BODY_BYTES:
        raise UnreadableMessage(f"The message is larger than {MAX_BODY_BYTES} bytes.")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage("The message is not JSON.") from error
    if not isinstance(fields, dict):
        raise UnreadableMessage("The message is not a JSON object.")
    video_id = _id(fields.get("video_id"))
    if video_id is None:
        raise UnreadableMessage("The message's video_id is not a positive whole number.")
    attempt, created_at = fields.get("attempt"), fields.get("created_at")
    return Message(
        video_id=video_id,
        tenant_id=_id(fields.get("tenant_id")),
        file_key=_text(fields.get("file_key")),
        tenant_code=_text(fields.get("tenant_code")),
        created_at=created_at if isinstance(created_at, str | float | int) else None,
        attempt=attempt if isinstance(attempt, int) and not isinstance(attempt, bool) else 1,
    )


def _id(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ID else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class Outcome(StrEnum):
    """How a job ended; the word that `handler.handle() returned` logs as `result`."""

    OK = "ok"
    CANCELLED = "skip:cancel"
    ALREADY_READY = "skip:ready"
    NOT_CLAIMED = "skip:claim"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"


class Settlement(StrEnum):
    """What is done with the message after the job."""

    #: Nothing: it was deleted before the claim, or there never was one.
    NOTHING = "nothing"
    DELETE = "delete"
    #: Visible again at once: another encoder shall have it.
    RETURN = "return"
    #: Visible again in LATER_SECONDS: the row is locked by somebody who may let go, or nobody could read it.
    LATER = "later"


LATER_SECONDS = 60


def settle(outcome: Outcome, *, fast_ack: bool, miss: ClaimMiss | None = None) -> Settlement:
    """The outcome table. With fast-ack the message is gone already and visibility is never touched.

    `miss` says why a claim took no row; None: the database did not answer.
    """
    if fast_ack:
        return Settlement.NOTHING
    if outcome is Outcome.RELEASED:
        return Settlement.RETURN
    if outcome is Outcome.NOT_CLAIMED and miss in (None, ClaimMiss.LOCKED):
        return Settlement.LATER
    return Settlement.DELETE
