"""Any sequence of the real statements on real PostgreSQL, on a clock that the test moves, against an oracle."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from appliance.domain.errors import LeaseLost
from appliance.domain.retry import Decision
from appliance.domain.video import ChunkLease, Lease
from tests.adapters.postgres.battery import held_rows
from tests.adapters.postgres.mutilation import stage_of
from tests.adapters.postgres.oracle import FIRST_RING_SECONDS, WITNESS_SECONDS, Chunk, Row
from tests.adapters.postgres.scene import BUILD, HELPER, OBJECTS, PLAN, WORKER, Scene

#: Seconds around every limit that the statements know.
WAITS = st.sampled_from([0, 1, 29, 30, 31, 59, 60, 61, 119, 120, 180, 181, 3600])
ROWS = """
SELECT id, status, lease_token::text, lease_epoch, extract(epoch FROM leased_until - %s::timestamptz)::float8 AS until,
       extract(epoch FROM renewed_at - %s::timestamptz)::float8 AS renewed,
       extract(epoch FROM run_after - %s::timestamptz)::float8 AS due,
       extract(epoch FROM next_ring_at - %s::timestamptz)::float8 AS ring, ring_count, failure_count, loss_count,
       cancel_requested_at IS NOT NULL AS cancel
FROM video WHERE id < 1000000 ORDER BY id
"""
CHUNKS = """
SELECT state, token::text, epoch, extract(epoch FROM leased_until - %s::timestamptz)::float8 AS until, assisted,
       assistant_losses
FROM video_chunk WHERE video_id = %s ORDER BY number
"""
BEGINNING = "2026-03-01 00:00+00"


class Statements(RuleBasedStateMachine):
    """`leases` and `chunks` keep every lease that was ever given, so most of them are stale."""

    scene: Scene
    leases = Bundle("leases")
    chunks = Bundle("chunks")

    @initialize(target=leases)
    def begin(self) -> Lease:
        """With a video that is owned and cut: most of what can happen comes after that."""
        self.scene.reset()
        self.now = 0.0
        self.rows: dict[int, Row] = {}
        self.submit()
        lease = self.claim_next()
        self.adopt(lease)
        return lease

    # ---- time and the platform

    @rule(seconds=WAITS)
    def wait(self, seconds: float) -> None:
        self.scene.advance(seconds)
        self.now += seconds

    @rule()
    def submit(self) -> None:
        if len(self.rows) < 2:
            self.rows[self.scene.submit()] = Row(due=self.now, ring=self.now)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if video := self._any(data):
            assert self.scene.leases.cancel(video) == self.rows[video].mark()

    @rule(data=st.data())
    def resubmit(self, data: st.DataObject) -> None:
        if video := self._any(data):
            assert self.scene.leases.resubmit(video) == self.rows[video].resubmit(self.now)

    # ---- leases

    @rule(target=leases, data=st.data())
    def claim(self, data: st.DataObject):
        video = self._any(data)
        if not video:
            return multiple()
        token = uuid.uuid4()
        claimed = self.scene.leases.claim(video, WORKER, token)
        if not self.rows[video].is_due(self.now):
            assert not isinstance(claimed, Lease)
            return multiple()
        self.rows[video].claim(token, self.now)
        assert isinstance(claimed, Lease)
        return claimed

    @rule(target=leases)
    def claim_next(self):
        token = uuid.uuid4()
        claimed = self.scene.leases.claim_next(WORKER, token)
        due = sorted((row.due or 0, video) for video, row in self.rows.items() if row.is_due(self.now))
        assert (claimed.video_id if claimed else None) == (due[0][1] if due else None)
        if not claimed:
            return multiple()
        self.rows[claimed.video_id].claim(token, self.now)
        return claimed

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        row = self._row(lease)
        cancel = row.cancel
        if self._kept(lambda: self._told(self.scene.leases.renew(lease), cancel), row.held_by(lease.token)):
            row.renew(self.now)

    @rule(lease=leases)
    def complete(self, lease: Lease) -> None:
        done = {"hls_path": "x", "duration_seconds": 1.0, "receipt": {}}
        outcome = self._row(lease).outcomes[lease.epoch - 1]
        if self._owned(lambda: self.scene.leases.complete(lease, **done), lease, outcome == "ready"):
            self._row(lease).complete()

    @rule(lease=leases, wait=st.sampled_from([None, 0.0, 30.0]))
    def fail(self, lease: Lease, wait: float | None) -> None:
        outcome = self._row(lease).outcomes[lease.epoch - 1]
        decision = Decision("encode_failed", "It failed.", wait)
        worked = outcome in {"failed", "retried", "cancelled"}
        if self._owned(lambda: self.scene.leases.fail(lease, decision, receipt={}), lease, worked):
            self._row(lease).fail(self.now, wait)

    @rule(lease=leases, wait=st.sampled_from([0.0, 60.0]))
    def release(self, lease: Lease, wait: float) -> None:
        worked = self._row(lease).outcomes[lease.epoch - 1] in {"released", "cancelled"}
        give = {"run_after_seconds": wait, "reason": "drain", "receipt": {}}
        if self._owned(lambda: self.scene.leases.release(lease, **give), lease, worked):
            self._row(lease).release(self.now, wait)

    @rule(lease=leases)
    def abandon(self, lease: Lease) -> None:
        row = self._row(lease)
        if row.held_by(lease.token):
            row.lose("abandoned", self.now)
        gone = self.scene.leases.abandon(lease.token)
        assert (gone is not None) == (row.outcomes[lease.epoch - 1] == "abandoned")

    # ---- reconcile

    @rule(seconds=WAITS)
    def reclaim_expired(self, seconds: float) -> None:
        self.wait(seconds)
        expired = [video for video, row in self.rows.items() if row.expired(self.now)]
        assert [row.video_id for row in self.scene.sweeps.reclaim_expired(9)] == expired
        for video in expired:
            self.rows[video].lose("reclaimed", self.now)

    @rule(between=st.sampled_from([0, 59, 60, 61]), renewed=st.none() | leases)
    def reclaim_silent(self, between: float, renewed: Lease | None) -> None:
        """All were judged silent; then time passed, and one may have renewed."""
        judged = held_rows(self.scene, *self.rows)
        self.wait(between)
        if renewed:
            self.renew(renewed)
        silent = [held.video_id for held in judged if self.rows[held.video_id].silent(self.now)]
        assert [row.video_id for row in self.scene.sweeps.reclaim_silent(judged, WITNESS_SECONDS)] == silent
        for video in silent:
            self.rows[video].lose("reclaimed", self.now)

    @rule(seconds=WAITS)
    def due_rings(self, seconds: float) -> None:
        self.wait(seconds)
        due = [video for video, row in self.rows.items() if row.rung(self.now)]
        assert [ring.video_id for ring in self.scene.sweeps.due_rings(9, FIRST_RING_SECONDS)] == due

    # ---- chunks

    @rule(lease=leases)
    def adopt(self, lease: Lease) -> None:
        row = self._row(lease)
        if self._kept(lambda: self.scene.chunks.adopt(lease, PLAN, BUILD), row.held_by(lease.token)) and not row.cut:
            row.cut, row.chunks = True, [Chunk() for _ in PLAN.chunks]

    @rule(target=chunks, lease=leases)
    def claim_chunk(self, lease: Lease):
        row, token = self._row(lease), uuid.uuid4()
        free = row.free_for_owner(self.now) if row.held_by(lease.token) else None
        taken = self.scene.chunks.claim_chunk(lease, token)
        return self._taken(lease.video_id, taken, free, token, assisted=False)

    @rule(target=chunks)
    def claim_assist(self):
        token = uuid.uuid4()
        found = self.scene.chunks.claim_assist(HELPER, token, BUILD)
        waits = any(row.is_due(self.now) for row in self.rows.values())
        wanted = [video for video, row in self.rows.items() if row.free_for_assistant(self.now) is not None]
        if not wanted or waits:
            assert found is None
            return multiple()
        assert found is not None
        assert found.chunk.video_id in wanted
        free = self.rows[found.chunk.video_id].free_for_assistant(self.now)
        return self._taken(found.chunk.video_id, found.chunk, free, token, assisted=True)

    @rule(chunk=chunks)
    def renew_chunk(self, chunk: ChunkLease) -> None:
        row = self.rows[chunk.video_id]
        if self._kept(lambda: self.scene.chunks.renew_chunk(chunk), row.encodes(chunk.number, chunk.token)):
            row.chunks[chunk.number].until = self.now + 60

    @rule(chunk=chunks)
    def done(self, chunk: ChunkLease) -> None:
        row = self.rows[chunk.video_id]
        found, encodes = row.chunks[chunk.number], row.encodes(chunk.number, chunk.token)
        before = (found.state, found.token) == ("DONE", chunk.token)
        self._kept(lambda: self.scene.chunks.done(chunk, OBJECTS), encodes or before)
        if encodes:
            found.state, found.until, row.losses = "DONE", None, 0

    @rule(chunk=consumes(chunks), how=st.sampled_from(["released", "failed", "abandoned"]))
    def let_go(self, chunk: ChunkLease, how: str) -> None:
        found = self.rows[chunk.video_id].chunks[chunk.number]
        held = found.state == "RUNNING" and found.token == chunk.token
        if how == "abandoned":
            assert self.scene.chunks.abandon_chunk(chunk.token) == held
        else:
            self._kept(lambda: self.scene.chunks.release_chunk(chunk, failed=how == "failed"), held)
        if held:
            found.back(lost=how != "released")

    @rule(lease=leases, number=st.integers(0, 2))
    def redo(self, lease: Lease, number: int) -> None:
        row = self._row(lease)
        kept = self._kept(lambda: self.scene.chunks.redo(lease, number), row.held_by(lease.token))
        if kept and row.cut and row.chunks[number].state == "DONE":
            row.chunks[number].back()

    # ---- what must be so

    @invariant()
    def rows_are_as_foretold(self) -> None:
        found = self.scene.admin(ROWS, *[BEGINNING] * 4)
        assert [tuple(row.values()) for row in found] == [
            (
                *(
                    video,
                    row.status,
                    row.token and str(row.token),
                    row.epoch,
                    row.until,
                    row.renewed,
                    row.due,
                    row.ring,
                ),
                *(row.rings, row.failures, row.losses, row.cancel),
            )
            for video, row in self.rows.items()
        ]
        for video, row in self.rows.items():
            assert self.scene.outcomes(video) == row.outcomes
            assert [tuple(chunk.values()) for chunk in self.scene.admin(CHUNKS, BEGINNING, video)] == [
                (chunk.state, chunk.token and str(chunk.token), chunk.epoch, chunk.until, chunk.assisted, chunk.losses)
                for chunk in row.chunks
            ]

    def _any(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.rows))) if self.rows else 0

    def _row(self, lease: Lease) -> Row:
        return self.rows[lease.video_id]

    def _owned(self, write: Callable[[], object], lease: Lease, worked: bool) -> bool:
        """Whether the lease was ended by this; a write that had worked before is no error, and changes nothing."""
        held = self._row(lease).held_by(lease.token)
        self._kept(write, held or worked)
        return held

    def _kept(self, write: Callable[[], object], expected: bool) -> bool:
        if expected:
            write()
        else:
            with pytest.raises(LeaseLost):
                write()
        return expected

    def _told(self, cancel: bool, expected: bool) -> None:
        assert cancel == expected

    def _taken(self, video: int, chunk: ChunkLease | None, free: int | None, token: UUID, *, assisted: bool):
        assert (chunk.number if chunk else None) == free
        if chunk is None or free is None:
            return multiple()
        self.rows[video].take(free, token, self.now, assisted=assisted)
        return chunk


@pytest.fixture
def scene(stack, _template) -> Iterator[Scene]:
    stack.postgres.start()
    with stage_of(stack.postgres, _template) as scene:
        yield scene


def test_any_sequence_of_statements_does_what_the_oracle_foretells(scene: Scene) -> None:
    machine = type("OnThisScene", (Statements,), {"scene": scene})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=150,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    scene.assert_bystanders()
