"""The chunks of one video that no attempt has finished yet: claimed, encoded and delivered one by one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from appliance.adapters.ffmpeg.tools import Tools
from appliance.domain import events
from appliance.domain.errors import ApplianceError, LeaseLost
from appliance.domain.plan import Plan
from appliance.domain.video import ChunkLease, DoneChunk
from appliance.encoder.chunk import Encoded, Rules, deliver, encode
from appliance.encoder.meter import Meter
from appliance.encoder.patience import STORAGE_SECONDS, insist
from appliance.encoder.ports import ChunkStore, Job, Storage
from appliance.encoder.progress import account, report_encode

#: How long to wait before looking again for chunks that somebody else is encoding.
WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Workshop:
    """What the chunks of every video are made with."""

    tools: Tools
    rules: Rules
    storage: Storage
    chunks: ChunkStore


class Missing:
    """One job's run over its missing chunks. `media` is the plan's prefix in storage, `directory` holds the source."""

    def __init__(self, workshop: Workshop, job: Job, plan: Plan, *, media: str, directory: Path) -> None:
        self._workshop = workshop
        self._chunks = workshop.chunks
        self._job = job
        self._plan = plan
        self._media = media
        self._directory = directory
        found = self._done()
        self._missing = {chunk.number for chunk in plan.chunks} - {chunk.number for chunk in found}
        self._meter = Meter(plan, {chunk.number for chunk in found}, partial(report_encode, job))
        resumed = sum(1 for chunk in found if chunk.epoch < job.lease.epoch)
        job.receipt = replace(job.receipt, chunks_resumed=resumed)

    def encode(self) -> None:
        """Until none is missing; the upload of one chunk overlaps the encode of the next."""
        with ThreadPoolExecutor(1, thread_name_prefix="deliver") as background:
            delivery = _Delivery(background, self._job)
            try:
                while self._missing:
                    self._job.may_begin(self._expected_seconds())
                    if not self._encode_one(delivery):
                        self._await_others(delivery)
            finally:
                delivery.settle()

    def _done(self) -> list[DoneChunk]:
        return insist(self._job, lambda: self._chunks.done_chunks(self._job.lease, self._plan.fingerprint))

    def _expected_seconds(self) -> float | None:
        return self._meter.expected_seconds(self._plan.chunk(min(self._missing)).frames)

    def _encode_one(self, delivery: _Delivery) -> bool:
        """Claim a chunk, encode it and hand it over; False when every missing one is in other hands."""
        lease = self._claim()
        if lease is None:
            return False
        with self._released_on_error(lease):
            encoded = self._encoded(lease)
            delivery.settle()  # at most two chunks lie on disk
        delivery.begin(partial(self._delivered, lease, encoded))
        self._missing.discard(lease.number)
        return True

    def _await_others(self, delivery: _Delivery) -> None:
        delivery.settle()
        self._job.wait(WAIT_SECONDS)
        self._missing -= {chunk.number for chunk in self._done()}

    def _claim(self) -> ChunkLease | None:
        token = uuid.uuid4()
        self._job.announce(events.ChunkClaiming(token))
        lease = insist(self._job, lambda: self._chunks.claim_chunk(self._job.lease, token))
        if lease is None:
            self._job.announce(events.ChunkEnded(token, "none"))
        else:
            self._job.hold(lease)
        return lease

    def _encoded(self, lease: ChunkLease) -> Encoded:
        chunk = self._plan.chunk(lease.number)
        encoded = encode(
            self._workshop.tools,
            self._workshop.rules,
            self._plan,
            chunk,
            directory=self._directory,
            check=self._job.check,
            on_seconds=partial(self._meter.move, chunk),
        )
        self._meter.finish(chunk, encoded.ended.wall_seconds)
        account(self._job, encoded.ended)
        for sentence in encoded.warnings:
            self._job.warn(sentence)
        return encoded

    def _delivered(self, lease: ChunkLease, encoded: Encoded) -> events.ChunkEnded:
        """Upload, then DONE: never the other way round. Runs beside the next encode."""
        with self._released_on_error(lease):
            prefix = f"{self._media}/{lease.number}-{lease.token}"
            send = partial(deliver, encoded, self._workshop.storage, prefix, self._job.check)
            sent = insist(self._job, send, seconds=STORAGE_SECONDS)
            self._job.let_go(lease)  # first, or a renewal after DONE would look like a lost chunk
            insist(self._job, lambda: self._chunks.done(lease, encoded.objects(prefix).to_json()))
        return events.ChunkEnded(lease.token, "encoded", encoded.ended.wall_seconds, encoded.media_seconds, sent)

    @contextmanager
    def _released_on_error(self, lease: ChunkLease) -> Iterator[None]:
        """A chunk that is not finished is given back at once, unless it is not ours any more."""
        try:
            yield
        except BaseException as error:
            self._job.let_go(lease)
            if not isinstance(error, LeaseLost):
                with suppress(ApplianceError):  # the chunk's lease expires by itself
                    self._chunks.release_chunk(lease)
            self._job.announce(events.ChunkEnded(lease.token, "released"))
            raise


class _Delivery:
    """One upload at a time, in the background; its end is accounted for by the job's own thread."""

    def __init__(self, background: ThreadPoolExecutor, job: Job) -> None:
        self._background = background
        self._job = job
        self._running: Future[events.ChunkEnded] | None = None

    def begin(self, work: Callable[[], events.ChunkEnded]) -> None:
        self._running = self._background.submit(work)

    def settle(self) -> None:
        """Wait for the running upload, if any. Raises what it raised."""
        running, self._running = self._running, None
        if running is not None:
            ended = running.result()
            self._job.announce(ended)
            self._job.receipt = self._job.receipt.plus(chunks_encoded=1, bytes_out=ended.bytes_out)
