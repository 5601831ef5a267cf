"""Keeps a message that was not acknowledged yet out of other encoders' sight while its job runs."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.adapters.sqs import Doorbell, Received
from appliance.domain.errors import Unavailable
from appliance.encoder.outage import Outage

#: Hidden for this long from each extension on: ten of them may fail before anybody else sees the message.
HIDDEN_SECONDS = 900.0
EXTEND_SECONDS = 90.0


@contextmanager
def hidden(doorbell: Doorbell, received: Received) -> Iterator[None]:
    """Extend at once, then every EXTEND_SECONDS, in a thread. Only without fast-ack.

    A failed extension costs nothing but a second delivery, which finds the row owned.
    """
    stop = threading.Event()
    outage = Outage("sqs")

    def extend() -> None:
        pause = 0.0
        while not stop.wait(pause):
            try:
                doorbell.visibility(received, HIDDEN_SECONDS)
            except Unavailable as error:
                pause = outage.failed(error)
            else:
                outage.answered()
                pause = EXTEND_SECONDS

    thread = threading.Thread(target=contextvars.copy_context().run, args=(extend,), name="visibility", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
