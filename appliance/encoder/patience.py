"""Waiting for a dependency that is away, with the work kept: an encode goes on and writes late (F23, F24, F27)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from appliance.domain.errors import Unavailable
from appliance.encoder.ports import Task

AGAIN_SECONDS = 1.0
#: An outage of S3 up to this long costs no encoded chunk; after it the video goes back, due later, and others try.
STORAGE_SECONDS = 600.0
Answer = TypeVar("Answer")


def insist(task: Task, statement: Callable[[], Answer], *, seconds: float = float("inf")) -> Answer:
    """The statement's answer, however long it takes; what ends the task ends the waiting. From any thread.

    What still does not answer after `seconds` raises Unavailable.
    """
    pause, until = threading.Event(), time.monotonic() + seconds
    waiting = False
    while True:
        try:
            return statement()
        except Unavailable as error:
            task.check()
            if time.monotonic() >= until:
                raise
            if not waiting:
                structlog.get_logger().warning("JOB_WAITS", dependency=error.dependency, error=error.sentence)
            waiting = True
            pause.wait(AGAIN_SECONDS)
