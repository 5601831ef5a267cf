"""What Redis, SQS and S3 must be and grant. Raises Unavailable where one does not answer; `check` names it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from appliance.adapters import aws
from appliance.adapters.sqs import Received
from appliance.cli.check.finding import OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Queue
from appliance.domain.errors import Unavailable
from appliance.domain.message import MAX_ID, Message
from appliance.domain.stored import Absent

#: A queue that gives up on a message before it was delivered this often makes dead letters of duplicates.
LEAST_RECEIVES = 5
#: An encoder hides its message at once for longer; until then the queue's own time holds.
LEAST_HIDDEN_SECONDS = 30
#: No row has this id: an encoder that hears the ring drops it.
NOBODY = Message(MAX_ID)
#: A delivery that nobody had: what may be done with it is refused by its handle, what may not is refused before.
NOT_DELIVERED = Received("", "nobody-was-given-this-handle", "")
EVICTS = ("allkeys-", "volatile-")
POLICY = "config/iam-policy.json has what the role needs."


def denied(asked: Mapping[str, Callable[[], object]]) -> list[str]:
    """Those actions that the role may not do. Raises Unavailable where there is no answer."""
    found = []
    for action, ask in asked.items():
        try:
            ask()
        except Unavailable as error:
            word = aws.refusal(error.__cause__)
            if not word:
                raise
            if "AccessDenied" in word:
                found.append(action)
    return found


def redis(services: Services) -> Iterator[Finding]:
    info, strict = services.telemetry.info(), services.config.reconcile.heartbeat == "strict"
    if info.get("role") == "slave":
        yield Finding(
            "redis", PROBLEM, "This Redis is a replica and takes no writes.", "Point redis.url at the primary."
        )
    most, used, policy = info.get("maxmemory", 0), info.get("used_memory", 0), str(info.get("maxmemory_policy", ""))
    if most and used > 0.9 * most:
        cure = "Give it more memory; meanwhile heartbeats may be missing, which costs nobody a lease."
        yield Finding("redis", WARNING, f"It is nearly full: {used} of {most} bytes.", cure)
    if most and policy.startswith(EVICTS):
        costs = (
            "videos of living encoders are taken back (reconcile.heartbeat: strict)" if strict else "progress is lost"
        )
        cure = "Set maxmemory-policy to noeviction (ElastiCache: in the parameter group)."
        sentence = f"maxmemory-policy is {policy}: when it is full it drops heartbeats, and {costs}."
        yield Finding("redis", PROBLEM if strict else WARNING, sentence, cure)
    yield Finding("redis", OK, f"version {info.get('redis_version', 'unknown')}")


def sqs(services: Services) -> Iterator[Finding]:
    """What the role may do is asked harmlessly: with a handle that nobody was given, by a ring for nobody's video."""
    bell, queue = services.doorbell, services.config.queue
    asked: dict[str, Callable[[], object]] = {
        "sqs:DeleteMessage": lambda: bell.delete(NOT_DELIVERED),
        "sqs:SendMessage": lambda: bell.ring(NOBODY),
    }
    if not queue.fast_ack:
        asked["sqs:ChangeMessageVisibility"] = lambda: bell.visibility(NOT_DELIVERED, 0)
    if missing := denied(asked):
        yield Finding("sqs", PROBLEM, f"This role may not {', '.join(missing)} on queue.url.", POLICY)
    settings = bell.settings()
    yield from _queue(queue, settings)
    yield Finding("sqs", OK, f"{settings.get('ApproximateNumberOfMessages', '?')} messages wait")


def dead_letters(services: Services) -> Iterator[Finding]:
    try:
        services.doorbell.dead_letter_settings()
    except Unavailable as error:
        hint = "Check queue.dead_letter_url, or leave it empty: unreadable messages are then logged and dropped."
        raise Unavailable("sqs", error.sentence, hint=hint) from error.__cause__
    yield from ()


def _queue(queue: Queue, settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("FifoQueue") == "true":
        cure = "Make a standard queue; the order is the database's (priority), and duplicates do no harm."
        yield Finding("sqs", PROBLEM, "queue.url is a FIFO queue, which the appliance cannot ring.", cure)
    if delay := int(settings.get("DelaySeconds", 0)):
        cure = "Set DelaySeconds of the queue to 0; the row says when a video is due."
        yield Finding("sqs", WARNING, f"The queue delivers each ring {delay} s late (DelaySeconds).", cure)
    if queue.fast_ack:
        return
    receives, hidden = _receives(settings), int(settings.get("VisibilityTimeout", LEAST_HIDDEN_SECONDS))
    if receives is not None and receives < LEAST_RECEIVES:
        cure = f"Set maxReceiveCount to {LEAST_RECEIVES} or more, or queue.fast_ack to true."
        sentence = (
            f"The queue gives a message up after {receives} deliveries; a video that is encoded elsewhere costs one."
        )
        yield Finding("sqs", WARNING, sentence, cure)
    if hidden < LEAST_HIDDEN_SECONDS:
        cure = f"Set VisibilityTimeout of the queue to {LEAST_HIDDEN_SECONDS} or more, or queue.fast_ack to true."
        sentence = (
            f"The queue shows a message again after {hidden} s, before its encoder can have hidden it for longer."
        )
        yield Finding("sqs", WARNING, sentence, cure)


def _receives(settings: dict[str, str]) -> int | None:
    """maxReceiveCount of the redrive policy, None without one."""
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(settings["RedrivePolicy"])["maxReceiveCount"])
    return None


def streams(services: Services) -> Iterator[Finding]:
    """Puts an object where streams go, lists it, reads it, and deletes it whatever became of that."""
    storage, name = services.streams, f"{services.config.storage.prefix}/.check-{uuid.uuid4()}"
    storage.put_bytes(name, b"check", content_type="text/plain", cache_control="no-store")
    try:
        whole = storage.sizes(name) == {name: 5} and storage.read(name).data == b"check"
    finally:
        storage.delete([name])
    if not whole:
        yield Finding("s3", PROBLEM, f"{storage.bucket} gave other bytes back than were put.", "Is it really S3?")
    yield Finding(
        "s3", OK, f"{storage.bucket}: put, listed, read and deleted {services.config.storage.prefix}/.check-…"
    )


def sources(services: Services) -> Iterator[Finding]:
    """Asks for an upload that nobody made: "not there" is the right answer. To a GET, whose refusal has a reason."""
    with suppress(Absent):
        services.sources.read(f".check-{uuid.uuid4()}")
    yield Finding("s3 sources", OK, f"{services.sources.bucket} answers")
