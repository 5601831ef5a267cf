"""SQS as a doorbell: it says "look at video 7", and nothing is lost when it says nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from appliance.domain.errors import Unavailable
from appliance.domain.message import Message

#: The longest poll that SQS allows (ReceiveMessage, WaitTimeSeconds).
LONGEST_POLL_SECONDS = 20
#: The part of a receipt handle that the log shows: enough to tell deliveries apart, useless to delete with.
SUFFIX_CHARACTERS = 12


@dataclass(frozen=True)
class Received:
    """One delivery. `request_id` is that of the ReceiveMessage call, so every delivery has its own."""

    body: str
    receipt_handle: str
    request_id: str
    receive_count: int = 1
    message_id: str = ""

    @property
    def receipt_handle_suffix(self) -> str:
        return self.receipt_handle[-SUFFIX_CHARACTERS:]


@dataclass(frozen=True)
class Depth:
    """Messages waiting, and messages that somebody received and has not deleted; both approximate, as SQS counts."""

    visible: int
    inflight: int


class Doorbell:
    """`client` is boto3's SQS client (its read timeout above the long poll). Errors → Unavailable("sqs", …)."""

    def __init__(self, client: Any, url: str, *, dead_letter_url: str = "") -> None:
        self._client = client
        self._url = url
        self._dead_letter_url = dead_letter_url

    def receive(self, wait_seconds: float) -> Received | None:
        """One message, or None after a long poll of this many seconds (rounded up, at most 20)."""
        answer = self._call(
            "receive_message",
            MaxNumberOfMessages=1,
            WaitTimeSeconds=min(math.ceil(max(0.0, wait_seconds)), LONGEST_POLL_SECONDS),
            AttributeNames=["ApproximateReceiveCount"],
        )
        messages = answer.get("Messages") or []
        if not messages:
            return None
        message = messages[0]
        return Received(
            body=message.get("Body", ""),
            receipt_handle=message["ReceiptHandle"],
            request_id=answer.get("ResponseMetadata", {}).get("RequestId") or message["MessageId"],
            receive_count=int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            message_id=message["MessageId"],
        )

    def delete(self, received: Received) -> None:
        self._call("delete_message", ReceiptHandle=received.receipt_handle)

    def visibility(self, received: Received, seconds: float) -> None:
        """Hide the message for this long from now on (SQS refuses beyond 12 h in all); 0 shows it at once."""
        whole = math.ceil(seconds)
        self._call("change_message_visibility", ReceiptHandle=received.receipt_handle, VisibilityTimeout=whole)

    def ring(self, message: Message) -> None:
        self._call("send_message", MessageBody=message.body())

    def dead_letter(self, received: Received, reason: str) -> bool:
        """Keep an unreadable message for people; False when no dead-letter queue is set."""
        if not self._dead_letter_url:
            return False
        attributes = {"reason": {"DataType": "String", "StringValue": reason}}
        self._call("send_message", url=self._dead_letter_url, MessageBody=received.body, MessageAttributes=attributes)
        return True

    def depth(self) -> Depth:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self._call("get_queue_attributes", AttributeNames=names)["Attributes"]
        return Depth(*(int(counts[name]) for name in names))

    def settings(self) -> dict[str, str]:
        """What the queue says of itself: every attribute, as text."""
        return dict(self._call("get_queue_attributes", AttributeNames=["All"])["Attributes"])

    def dead_letter_settings(self) -> dict[str, str]:
        """The same of the dead-letter queue; empty when none is set."""
        if not self._dead_letter_url:
            return {}
        return dict(self._call("get_queue_attributes", url=self._dead_letter_url, AttributeNames=["All"])["Attributes"])

    def _call(self, method: str, *, url: str = "", **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, method)(QueueUrl=url or self._url, **arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise Unavailable("sqs", f"SQS refused or did not answer {method}: {error}", hint=_hint(error)) from error
        return answer


def _hint(error: Exception) -> str:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    if isinstance(error, NoCredentialsError):
        return "Give this host an instance role (config/iam-policy.json), or this shell an account."
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
        return "Check queue.url and the region: there is no such queue."
    if "AccessDenied" in code or "Token" in code or "Signature" in code:
        return "Check the instance role: config/iam-policy.json lists what it needs."
    return "Check queue.url and the network; rows are found without SQS, only later."
