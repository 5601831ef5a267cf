"""The chunks of one video that nobody has finished yet: claimed, encoded and delivered one by one by its owner."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from appliance.domain import events
from appliance.domain.video import ChunkLease
from appliance.encoder.chunk import Encoded
from appliance.encoder.meter import Meter
from appliance.encoder.patience import insist
from appliance.encoder.ports import Job
from appliance.encoder.progress import report_encode
from appliance.encoder.workshop import Hands, holding

#: How long to wait before looking again for chunks that somebody else is encoding.
WAIT_SECONDS = 0.5


class Missing:
    """One job's run over its missing chunks. Assistants take some of them; all that counts here is what is DONE."""

    def __init__(self, hands: Hands, job: Job) -> None:
        self._hands, self._job, self._plan = hands, job, hands.plan
        self._chunks = hands.workshop.chunks
        self._missing = {chunk.number for chunk in self._plan.chunks}
        self._meter = Meter(self._plan, partial(report_encode, job))
        self._look()
        self._meter.start()

    def encode(self) -> None:
        """Until none is missing; the upload of one chunk overlaps the encode of the next."""
        with ThreadPoolExecutor(1, thread_name_prefix="deliver") as background:
            delivery = _Delivery(background, self._job)
            try:
                while self._missing:
                    self._job.may_begin(self._expected_seconds())
                    if not self._encode_one(delivery):
                        delivery.settle()
                        self._job.wait(WAIT_SECONDS)
                    self._look()
            finally:
                delivery.settle()

    def _look(self) -> None:
        """What is DONE by now, whoever did it."""
        plan = self._plan.fingerprint
        found = insist(self._job, lambda: self._chunks.done_chunks(self._job.lease, plan, whole=False))
        self._missing -= {chunk.number for chunk in found}
        self._meter.learn({chunk.number for chunk in found})
        resumed = sum(1 for chunk in found if chunk.epoch < self._job.lease.epoch)
        assisted = sum(1 for chunk in found if chunk.assisted and chunk.epoch == self._job.lease.epoch)
        self._job.receipt = replace(self._job.receipt, chunks_resumed=resumed, chunks_assisted=assisted)

    def _expected_seconds(self) -> float | None:
        return self._meter.expected_seconds(self._plan.chunk(min(self._missing)).frames)

    def _encode_one(self, delivery: _Delivery) -> bool:
        """Claim a chunk, encode it and hand it over; False when every missing one is in other hands."""
        lease = self._claim()
        if lease is None:
            return False
        chunk = self._plan.chunk(lease.number)
        with holding(self._chunks, self._job, lease):
            encoded = self._hands.encode(lease, partial(self._meter.move, chunk))
            self._meter.finish(chunk, encoded.objects("").cost.wall_seconds)
            delivery.settle()  # at most two chunks lie on disk
        delivery.begin(partial(self._delivered, lease, encoded))
        self._missing.discard(lease.number)
        return True

    def _claim(self) -> ChunkLease | None:
        token = uuid.uuid4()
        self._job.announce(events.ChunkClaiming(token))
        lease = insist(self._job, lambda: self._chunks.claim_chunk(self._job.lease, token))
        if lease is None:
            self._job.announce(events.ChunkEnded(token, "none"))
        return lease

    def _delivered(self, lease: ChunkLease, encoded: Encoded) -> events.ChunkEnded:
        """Runs beside the next encode."""
        with holding(self._chunks, self._job, lease):
            return self._hands.deliver(lease, encoded)


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
