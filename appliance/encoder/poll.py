"""A receive that does not hold its process: signals are heard while it waits, and so is a chunk that wants help."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from appliance.encoder.drain import Drain
from appliance.encoder.parent import Parent

#: How often there is a look at what else there is to do, and a sign of life.
LOOK_SECONDS = 2.0
#: What is just coming in when the signal does is still taken, to be handed back.
LAST_SECONDS = 0.2
Answer = TypeVar("Answer")


class Poll(Generic[Answer]):
    """One call of `receive`, in a thread of its own, because nothing else can be done about one that hangs.

    It may be left and come back to. One that is never come back to ends with the process; what it receives then comes
    back to the queue by itself.
    """

    def __init__(self, receive: Callable[[], Answer]) -> None:
        self._answer: Future[Answer] = Future()
        self._reader, writer = os.pipe()
        threading.Thread(target=self._run, args=(receive, writer), name="poll", daemon=True).start()

    def _run(self, receive: Callable[[], Answer], writer: int) -> None:
        try:
            self._answer.set_result(receive())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self._answer.set_exception(error)
        finally:
            os.close(writer)  # which wakes whoever waits

    def answered(
        self,
        drain: Drain,
        parent: Parent,
        *,
        leave: bool,
        seconds: float = math.inf,
        distracted: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait: not longer than this, nor once there is something better to do, nor once the process is told to go.

        `leave`: at the first SIGTERM, else at the second.
        """
        until = time.monotonic() + seconds
        while not (self._answer.done() or time.monotonic() >= until):
            if drain.asked if leave else drain.over:
                return bool(wait([self._answer], LAST_SECONDS).done)
            drain.wait(min(LOOK_SECONDS, until - time.monotonic()), self._reader)
            parent.alive()
            if not (self._answer.done() or drain.asked) and distracted():
                break
        return self._answer.done()

    def take(self) -> Answer:
        """What the call returned or raises. Once, and only when it has answered."""
        os.close(self._reader)
        return self._answer.result()
