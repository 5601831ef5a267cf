"""A receive that a signal can interrupt, and that keeps the supervisor informed while it waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from appliance.encoder.drain import Drain
from appliance.encoder.parent import ALIVE_SECONDS, Parent

#: What is just coming in when the signal does is still taken, to be handed back.
LAST_SECONDS = 0.2
Answer = TypeVar("Answer")


def interruptible(receive: Callable[[], Answer], drain: Drain, parent: Parent, *, leave: bool) -> Answer | None:
    """What `receive` returns or raises; None when the process is told to go first.

    `leave`: at the first SIGTERM, else at the second. The abandoned call ends with the process; what it still receives
    comes back by itself. The call has a thread of its own, because nothing else can be done about one that hangs.
    """
    reader, writer = os.pipe()
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(receive())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            answer.set_exception(error)
        finally:
            os.close(writer)  # which wakes whoever waits

    threading.Thread(target=run, name="poll", daemon=True).start()
    try:
        while not answer.done() and not (drain.asked if leave else drain.over):
            drain.wait(ALIVE_SECONDS, reader)
            parent.alive()
    finally:
        os.close(reader)
    return answer.result() if wait([answer], LAST_SECONDS).done else None
