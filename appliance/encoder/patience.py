"""Waiting for a database that is away, with the work kept: a running encode goes on and writes late (F23, F24)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from appliance.domain.errors import Unavailable
from appliance.encoder.ports import Job

AGAIN_SECONDS = 1.0
Answer = TypeVar("Answer")


def insist(job: Job, statement: Callable[[], Answer]) -> Answer:
    """The statement's answer, however long it takes; what ends the job ends the waiting. From any thread."""
    pause = threading.Event()
    while True:
        try:
            return statement()
        except Unavailable:
            job.check()
            pause.wait(AGAIN_SECONDS)
