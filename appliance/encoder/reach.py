"""S3 as one encoder sees it: what the supervisor hears of it, and asking again while nobody else does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from appliance.adapters.s3 import S3
from appliance.domain.errors import Unavailable
from appliance.encoder.outage import Outage
from appliance.encoder.parent import Parent


class Reach:
    """Told of each call's end by whatever thread made it: None, or that it was not answered.

    The bucket that did not answer is asked again, in a thread of its own, every second to twenty until one does: the
    job may have been given back, and an encoder without one must still learn that S3 is there again.
    """

    def __init__(self, parent: Parent, wait: Callable[[float], object] | None = None) -> None:
        self._parent = parent
        self._wait = wait or threading.Event().wait
        self._outage = Outage("s3")
        self._lock = threading.Lock()
        #: The bucket that did not answer last, and how long it is left alone; None while they answer.
        self._lost: tuple[S3, float] | None = None

    def ended(self, bucket: S3, error: Unavailable | None) -> None:
        with self._lock:
            self._parent.saw("s3", answers=error is None)
            if error is None:
                self._lost = None
                self._outage.answered()
                return
            self._parent.count("dependency_errors", "s3")
            began, self._lost = self._lost is None, (bucket, self._outage.failed(error))
        if began:
            threading.Thread(target=self._ask, name="reach", daemon=True).start()

    def _ask(self) -> None:
        while lost := self._lost:
            bucket, pause_seconds = lost
            self._wait(pause_seconds)
            with suppress(Unavailable):
                bucket.ping()
