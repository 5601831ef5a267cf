"""Waiting for a dependency that is away, with the work kept: an encode goes on and writes late (F23, F24, F27)."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import partial
from typing import TypeVar

import structlog

from appliance.domain.errors import Refused, Unavailable
from appliance.encoder.ports import Task

AGAIN_SECONDS = 1.0
#: An outage of S3 up to this long costs no encoded chunk; after it the video goes back, due later, and others try.
STORAGE_SECONDS = 600.0
#: A new policy takes a while to be known everywhere (IAM is eventually consistent); refused for longer is refused.
REFUSED_SECONDS = 60.0
#: How often a call that has not answered is asked whether it still matters.
LOOK_SECONDS = 0.5
#: Calls of one job to storage side by side: enough to hide a round trip, few enough for one core.
AT_A_TIME = 4
Answer = TypeVar("Answer")
Item = TypeVar("Item")


def insist(task: Task, statement: Callable[[], Answer], *, seconds: float = float("inf")) -> Answer:
    """The statement's answer, however long it takes; what ends the task ends the waiting. From any thread.

    What still does not answer after `seconds` raises Unavailable, what is refused for a minute Refused. Such a
    statement talks to storage, which may accept and then say nothing for as long as all its deadlines and tries take:
    it is made `aside`.
    """
    if seconds < float("inf"):
        statement = partial(aside, task.check, statement)
    pause, until = threading.Event(), time.monotonic() + seconds
    refused_until: float | None = None
    waiting = False
    while True:
        try:
            return statement()
        except Unavailable as error:
            task.check()
            now = time.monotonic()
            refused_until = (refused_until or now + REFUSED_SECONDS) if isinstance(error, Refused) else None
            if now >= min(until, refused_until or until):
                raise
            if not waiting:
                structlog.get_logger().warning("JOB_WAITS", dependency=error.dependency, error=error.sentence)
            waiting = True
            pause.wait(AGAIN_SECONDS)


def aside(check: Callable[[], None], call: Callable[[], Answer]) -> Answer:
    """The call's answer. What `check` raises while it is waited for leaves the call to itself.

    So a hanging storage does not hold up a lost lease, a cancel, a signal or the sign of life (F21, F27, F34, F37). A
    call that is left writes, if at all, where only its own token's readers look.
    """
    answer = begun(call)
    while not wait([answer], LOOK_SECONDS).done:
        check()
    return answer.result()


def each(items: Iterable[Item], call: Callable[[Item], Answer]) -> list[Answer]:
    """The call's answer for each item, some at a time; raises what one of them raised, once all have ended."""
    found: dict[int, Answer] = {}
    waiting = iter(enumerate(items))

    def some() -> None:
        for number, item in waiting:
            found[number] = call(item)

    for ended in wait([begun(some) for _ in range(AT_A_TIME)]).done:
        ended.result()
    return [found[number] for number in sorted(found)]


def begun(call: Callable[[], Answer]) -> Future[Answer]:
    """The call in a thread of its own, which does not hold up the end of the process as an executor's would."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            answer.set_exception(error)

    context = contextvars.copy_context()  # what the log lines of the job are bound to
    threading.Thread(target=context.run, args=(run,), name="aside", daemon=True).start()
    return answer
