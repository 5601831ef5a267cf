"""Helping: an encoder that has nothing to claim takes one chunk of a video that somebody else owns, here or elsewhere.

Nothing here is charged to the video. A chunk that fails goes back to whoever takes it next; one that fails in two
assistants, or kills them, is left to its owner (F54).
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import structlog

from appliance.adapters.postgres.chunks import Assist, Chunks
from appliance.domain.errors import ApplianceError, LeaseLost, Stopped, Unavailable
from appliance.domain.events import Assisting, ChunkClaiming, ChunkEnded, Progress
from appliance.domain.plan import Plan
from appliance.domain.video import ChunkLease, Worker
from appliance.encoder.database import Access
from appliance.encoder.drain import Drain
from appliance.encoder.heartbeat import Heartbeat
from appliance.encoder.job import Task
from appliance.encoder.lookout import Lookout
from appliance.encoder.parent import Parent
from appliance.encoder.patience import aside
from appliance.encoder.pipeline import Fetched
from appliance.encoder.workshop import Hands, Workshop, holding
from appliance.log import job_fields

#: While a chunk waits for help the queue is polled only this long at a time.
SOON_SECONDS = 2.0
#: An idle host asks no oftener whether there is one.
QUIET_SECONDS = 4.0
#: After a chunk that could not be encoded here: what was wrong with it, or with this host, may pass.
REST_SECONDS = 60.0

Fetch = Callable[[Task, str, Plan, Path], Fetched]


class Assistant:
    """`fetch` puts the planned source into a directory, `room` makes one, `media` says where a plan's chunks lie."""

    def __init__(
        self,
        workshop: Workshop,
        *,
        worker: Worker,
        chunks: Chunks,
        access: Access,
        heartbeat: Heartbeat,
        parent: Parent,
        drain: Drain,
        lookout: Lookout,
        fetch: Fetch,
        room: Callable[[ChunkLease], AbstractContextManager[Path]],
        media: Callable[[int, Plan], str],
    ) -> None:
        self._workshop = workshop
        self._worker, self._chunks, self._access = worker, chunks, access
        self._heartbeat, self._parent, self._drain, self._lookout = heartbeat, parent, drain, lookout
        self._fetch, self._room, self._media = fetch, room, media
        self._log = structlog.get_logger()
        self._rest_until = self._quiet_until = -math.inf

    def __call__(self) -> float:
        """Help with one chunk, if one waits; returns how long nobody needs to look again: not at all after a chunk."""
        if time.monotonic() < self._rest_until:
            return math.inf
        build = self._workshop.tools.build
        token = uuid.uuid4()
        self._parent.announce(ChunkClaiming(token))
        try:
            found = self._chunks.claim_assist(self._worker, token, build)
            if found is None:
                self._parent.announce(ChunkEnded(token, "none"))
                return SOON_SECONDS if self._chunks.help_wanted(build) else math.inf
        except Unavailable:
            self._forget(token)
            return SOON_SECONDS
        self._help(found)
        return 0.0

    def wanted(self) -> bool:
        """Whether there may be a chunk to help with: asked while nothing else is to do."""
        if time.monotonic() < max(self._rest_until, self._quiet_until):
            return False
        try:
            wanted = self._chunks.help_wanted(self._workshop.tools.build)
        except Unavailable:
            return False  # seen and said by whoever needs the database
        if not wanted:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
        return wanted

    def _forget(self, token: uuid.UUID) -> None:
        """Nobody knows whether the claim took a chunk. If it did, that chunk goes back."""
        try:
            self._access.insist(
                lambda: self._chunks.abandon_chunk(token, died=False), give_up=lambda: self._drain.asked
            )
        except Unavailable:
            return  # we leave, and the supervisor abandons what was announced
        self._parent.announce(ChunkEnded(token, "none"))

    def _help(self, found: Assist) -> None:
        """To the chunk's end, whatever that is."""
        self._lookout.leave()
        chunk = found.chunk
        with job_fields(video_id=chunk.video_id, tenant_id=found.tenant_id, request_id=None, lease_epoch=found.epoch):
            self._parent.announce(Assisting(chunk.token, chunk.video_id, found.tenant_id, chunk.number))
            self._log.info("ASSISTING", chunk=chunk.number)
            task = Task(drain=self._drain, parent=self._parent)
            with self._heartbeat.beating(task):
                how = self._attempt(task, found)
            self._log.info("ASSISTED", chunk=chunk.number, result=how)

    def _attempt(self, task: Task, found: Assist) -> str:
        try:
            self._encode(task, found)
        except LeaseLost:
            return "lost"
        except Stopped as error:
            self._rest()
            return error.code
        except ApplianceError as error:
            self._log.warning("ASSIST_FAILED", error=error.sentence, hint=error.hint, details=error.details)
            self._rest()
            return error.code
        except Exception:  # noqa: BLE001 - a mistake of ours ends one chunk, not the encoder
            self._log.exception("INTERNAL_ERROR")
            self._rest()
            return "internal_error"
        return "encoded"

    def _encode(self, task: Task, found: Assist) -> None:
        chunk, plan = found.chunk, found.plan
        media = self._media(chunk.video_id, plan)
        with holding(self._chunks, task, chunk), self._room(chunk) as directory:
            fetch = partial(self._fetch, task, found.file_key, plan, directory)
            fetched = aside(partial(task.may_begin, None), fetch)
            hands = Hands(self._workshop, task, plan, media, directory, outcome="assisted")
            encoded = hands.encode(chunk, partial(self._tell, task, found, time.monotonic()))
            ended = hands.deliver(chunk, encoded, bytes_in=fetched.bytes_in)
        task.announce(ended)

    def _tell(self, task: Task, found: Assist, began: float, seconds: float) -> None:
        """For this host's status page alone; the video's progress is its owner's to tell."""
        number = found.chunk.number
        step = f"assist chunk {number}"
        if task.report_due(step):
            whole = float(found.plan.chunk(number).frames / found.plan.grid.rate)
            speed = seconds / (time.monotonic() - began) or None
            left = max(0.0, whole - seconds) / speed if speed else None
            percent = min(100.0, 100 * seconds / whole)
            task.announce(Progress(found.chunk.video_id, percent, step, speed, left, number))

    def _rest(self) -> None:
        self._rest_until = time.monotonic() + REST_SECONDS
