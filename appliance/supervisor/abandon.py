"""What dead children held is given back: abandon exactly their tokens, then ring.

A thread with its own connections, so that the supervisor's loop never waits for a database. Tokens whose process still
runs (an earlier supervisor's child that has not noticed yet) wait for its end; while a dependency is down all wait.
"""

from __future__ import annotations

import threading

import structlog

from appliance.adapters.postgres.chunks import Chunks
from appliance.adapters.postgres.leases import Abandoned, Leases
from appliance.adapters.sqs import Doorbell
from appliance.domain.errors import Unavailable
from appliance.domain.message import Message
from appliance.domain.video import Status
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.tokens import TokenFiles, Tokens, running

#: Between two looks while something cannot be abandoned yet.
AGAIN_SECONDS = 1.0
OBSERVER = "abandon"


class Abandoner:
    """`leases`, `chunks` and `doorbell` are this thread's own."""

    def __init__(
        self,
        *,
        leases: Leases,
        chunks: Chunks,
        doorbell: Doorbell,
        files: TokenFiles,
        dependencies: Dependencies,
        metrics: Metrics,
    ) -> None:
        self._leases, self._chunks, self._doorbell = leases, chunks, doorbell
        self._files, self._dependencies, self._metrics = files, dependencies, metrics
        self._log = structlog.get_logger()
        self._lock = threading.Lock()
        self._dead: list[Tokens] = []
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="abandon", daemon=True)

    def start(self) -> None:
        """Begin, with what earlier supervisors of this host left behind."""
        for tokens in self._files.left_over():
            self.add(tokens)
        self._thread.start()

    def add(self, tokens: Tokens) -> None:
        """These are to be abandoned as soon as their process is gone."""
        with self._lock:
            self._dead.append(tokens)
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """Finish what can be finished within this time; the rest stays on disk for the next supervisor."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            last_round = self._stopping
            with self._lock:
                dead = list(self._dead)
            left = [tokens for tokens in dead if not self._settled(tokens)]
            with self._lock:
                self._dead = [*left, *self._dead[len(dead) :]]
                idle = not self._dead
            if last_round:
                return
            self._wake.wait(None if idle else AGAIN_SECONDS)
            self._wake.clear()

    def _settled(self, tokens: Tokens) -> bool:
        """Whether nothing of these is left to do."""
        if running(tokens):
            return False
        try:
            with self._dependencies.watched(OBSERVER, "postgres"):
                freed = self._abandon(tokens)
        except Unavailable:
            return False
        except Exception:  # noqa: BLE001 - a mistake of ours would be made again the next time: their time ends them
            self._log.exception("ABANDON_FAILED", slot=tokens.slot, pid=tokens.pid)
            freed = []
        for abandoned in freed:
            self._ring(abandoned)
        self._files.forget(tokens)
        return True

    def _abandon(self, tokens: Tokens) -> list[Abandoned]:
        for chunk in tokens.chunks:
            self._chunks.abandon_chunk(chunk)
        freed = [abandoned for video in tokens.videos if (abandoned := self._leases.abandon(video))]
        for abandoned in freed:
            self._metrics.count("reclaims", "abandoned")
            self._log.info(
                "ABANDONED",
                video_id=abandoned.video_id,
                tenant_id=abandoned.tenant_id,
                slot=tokens.slot,
                status=str(abandoned.status),
            )
        return freed

    def _ring(self, abandoned: Abandoned) -> None:
        """Best effort: the row is due to be rung, so a send that fails here is the sweep's."""
        if abandoned.status != Status.UPLOADED:
            return
        message = Message(abandoned.video_id, abandoned.tenant_id, abandoned.file_key)
        try:
            with self._dependencies.watched(OBSERVER, "sqs"):
                self._doorbell.ring(message)
        except Unavailable:
            self._metrics.count("ring_errors")
        else:
            self._metrics.count("rings", "abandoned")
