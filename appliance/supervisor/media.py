"""Media that nothing names any more is deleted: what lost attempts left, and the stream that a re-encode replaced.

A video is looked at once after each of its attempts, when it has been left alone for `rest_seconds`: until then a
player may still hold the old playlists. A thread of its own, because S3 may take its time.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import structlog

from appliance.adapters.postgres.media import Media
from appliance.adapters.s3 import S3
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.domain.layout import home, maker_of
from appliance.supervisor.metrics import Metrics

#: Attempts at a time, so that many hosts share the work and a dying one leaves little unswept.
BATCH = 20
#: Between two looks, half of it by chance, so that a fleet does not look as one.
LOOK_SECONDS = 3600.0


class MediaSweep:
    """`media` is this thread's own; `storage()` makes one, which costs memory that an idle supervisor need not hold."""

    def __init__(
        self, media: Media, storage: Callable[[], S3], *, prefix: str, rest_seconds: float, metrics: Metrics
    ) -> None:
        self._media, self._storage = media, storage
        self._prefix, self._rest_seconds, self._metrics = prefix, rest_seconds, metrics
        self._log = structlog.get_logger()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="media", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        self._thread.join(seconds)

    def sweep(self) -> int:
        """Everything that is due; returns how many objects were deleted. Raises Unavailable, with the rest put back."""
        deleted, storage = 0, None
        while not self._stop.is_set() and (video_ids := self._media.take_unswept(BATCH)):
            storage = storage or self._storage()
            for done, video_id in enumerate(video_ids):
                try:
                    deleted += self._one(video_id, storage)
                except ApplianceError:
                    self._media.sweep_again(video_ids[done:])
                    raise
        return deleted

    def _one(self, video_id: int, storage: S3) -> int:
        self._media.forget_plans(video_id)
        place = home(self._prefix, video_id)
        old = storage.older_than(f"{place}/", self._rest_seconds)
        named = self._media.named(video_id)
        if named is None:
            return 0
        unnamed = [key for key in old if (maker := maker_of(key, place)) is not None and maker not in named]
        storage.delete(unnamed)
        if unnamed:
            size_bytes = sum(old[key] for key in unnamed)
            self._metrics.count("media_swept_objects", amount=len(unnamed))
            self._log.info("MEDIA_SWEPT", video_id=video_id, objects=len(unnamed), bytes=size_bytes)
        return len(unnamed)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS * random.uniform(0.5, 1)):
            try:
                self.sweep()
            except Unavailable as error:
                self._log.warning("MEDIA_SWEEP_WAITS", error=error.sentence, hint=error.hint)
            except Exception:  # noqa: BLE001 - a mistake of ours costs storage, not the service
                self._log.exception("MEDIA_SWEEP_FAILED")
            self._media.close()
