"""Two sessions, one row: the first has executed its statement and not committed, the second runs its own.

Each statement is one autocommit transaction, so this boundary, with a commit or a rollback behind it, is every way in
which two of them can meet. For each pair: whether the second waits, and what the row and the caller are told.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from appliance.adapters.postgres.chunks import MAX_ASSISTANTS
from appliance.adapters.postgres.connection import Database, _plain
from appliance.adapters.postgres.leases import CANCELLED, losing
from appliance.adapters.postgres.sweeps import Held
from appliance.domain.plan import PLAN_REVISION
from appliance.domain.video import ChunkLease, Lease
from tests.adapters.postgres.battery import RETRY, complete, held_rows, taken
from tests.adapters.postgres.scene import BUILD, HELPER, OBJECTS, PLAN, Run, Scene
from tests.adapters.postgres.stage import CHUNK_LEASE_SECONDS, LEASE_SECONDS, MAX_LOSSES

FIRST_TOKEN = UUID(int=0xF1457)
#: Every parameter that a first statement may need.
PARAMETERS: dict[str, Any] = {
    "leased_by": "first",
    "host": "first",
    "worker": "first",
    "tenant_id": None,
    "lease_seconds": LEASE_SECONDS,
    "chunk_lease_seconds": CHUNK_LEASE_SECONDS,
    "assisted": True,
    "build": BUILD,
    "revision": PLAN_REVISION,
    "max_assistants": MAX_ASSISTANTS,
    "hls_path": "first",
    "duration_seconds": 1.0,
    "receipt": {},
    "limit": 9,
    "error_code": "encode_failed",
    "error_reason": "",
    "retry_in_seconds": 30.0,
    "run_after_seconds": 0.0,
    "reason": "drain",
    "objects": OBJECTS,
    "number": 0,
    "failed": False,
    "died": True,
    "first_ring_seconds": 60.0,
    "witness_seconds": 60.0,
    "plan": PLAN.fingerprint,
    "force": False,
    **losing(MAX_LOSSES),
    **CANCELLED,
}


@pytest.fixture(scope="module")
def stood(stack, _template) -> Iterator[Scene]:
    from tests.adapters.postgres.mutilation import stage_of

    stack.postgres.start()
    with stage_of(stack.postgres, _template) as scene:
        yield scene


@dataclass
class Act:
    """A video that is owned and cut: chunk 0 is DONE, the owner holds chunk 1, and an assistant chunk 2."""

    scene: Scene
    lease: Lease
    own: ChunkLease
    helped: ChunkLease
    judged: list[Held]

    def first(self, statement: str, **parameters: Any) -> str:
        """The statement, as the rival will execute it."""
        lease = {"video_id": self.lease.video_id, "token": self.lease.token, "owner_token": self.lease.token}
        judged = {"ids": [h.video_id for h in self.judged], "tokens": [h.token for h in self.judged]}
        untils = {"untils": [held.leased_until for held in self.judged]}
        values = {**PARAMETERS, **lease, **judged, **untils, **parameters}
        query = Database("", application_name="first")._statements[statement][1]
        connection = self.scene.rival.connection
        with connection.cursor() as cursor:
            return cursor.mogrify(query, {name: _plain(value) for name, value in values.items()}).decode()


@pytest.fixture
def act(stood: Scene) -> Act:
    stood.reset()
    lease = stood.cut()
    stood.chunks.done(taken(stood, lease), OBJECTS)
    own = taken(stood, lease)
    found = stood.assist()
    assert found is not None
    return Act(stood, lease, own, found.chunk, held_rows(stood, lease))


def told(run: Run) -> str:
    """`waited: LeaseLost`, `at once: True`: whether it waited, and what it was told."""
    answer = type(run.error).__name__ if run.error else run.answer
    named = type(answer).__name__ if isinstance(answer, (Lease, ChunkLease)) else answer
    return f"{'waited' if run.waited else 'at once'}: {named}"


# ---- two that want the same row


def second(act: Act) -> dict[str, Callable[[], Any]]:
    """What the second session does, by name."""
    scene, lease = act.scene, act.lease
    leases, chunks, sweeps = scene.leases, scene.chunks, scene.sweeps
    video = lease.video_id
    return {
        "claim": lambda: leases.claim(video, HELPER, uuid.uuid4()),
        "claim_next": lambda: leases.claim_next(HELPER, uuid.uuid4()),
        "renew": lambda: leases.renew(lease),
        "complete": lambda: complete(scene, lease),
        "fail": lambda: str(leases.fail(lease, RETRY, receipt={})),
        "release": lambda: str(leases.release(lease, reason="drain", receipt={})),
        "abandon": lambda: (gone := leases.abandon(lease.token)) and str(gone.status),
        "try_reclaim": lambda: leases.try_reclaim_video(video),
        "reclaim_expired": lambda: len(sweeps.reclaim_expired(9)),
        "reclaim_silent": lambda: len(sweeps.reclaim_silent(act.judged, 60)),
        "cancel": lambda: leases.cancel(video),
        "resubmit": lambda: leases.resubmit(video),
        "due_rings": lambda: len(sweeps.due_rings(9, 60)),
        "adopt": lambda: chunks.adopt(lease, PLAN, BUILD),
        "redo": lambda: chunks.redo(lease, 0),
        "claim_chunk": lambda: chunks.claim_chunk(lease, uuid.uuid4()),
        "claim_assist": lambda: (found := chunks.claim_assist(HELPER, uuid.uuid4(), BUILD)) and found.chunk,
        "renew_chunk": lambda: chunks.renew_chunk(act.helped),
        "done": lambda: chunks.done(act.helped, OBJECTS),
        "release_chunk": lambda: chunks.release_chunk(act.helped),
        "abandon_chunk": lambda: chunks.abandon_chunk(act.helped.token),
    }


#: State of the row, first statement, second: what it is told when the first commits, and when it rolls back; and the
#: row's status and losses after the commit.
WAITING, HELD, EXPIRED = "waiting", "held", "expired"
VIDEO: list[tuple[str, str, str, str, str, tuple[str, int]]] = [
    (WAITING, "claim", "claim", "at once: locked", "at once: locked", ("PROCESSING", 0)),
    (WAITING, "claim", "claim_next", "at once: None", "at once: None", ("PROCESSING", 0)),
    (WAITING, "claim_next", "claim", "at once: locked", "at once: locked", ("PROCESSING", 0)),
    (WAITING, "claim", "cancel", "waited: requested", "waited: cancelled", ("PROCESSING", 0)),
    (WAITING, "cancel", "claim", "at once: locked", "at once: locked", ("FAILED", 0)),
    (WAITING, "claim", "due_rings", "at once: 0", "at once: 0", ("PROCESSING", 0)),
    (WAITING, "due_rings", "claim", "at once: locked", "at once: locked", ("UPLOADED", 0)),
    (WAITING, "due_rings", "due_rings", "at once: 0", "at once: 0", ("UPLOADED", 0)),
    (WAITING, "cancel", "cancel", "waited: ignored", "waited: cancelled", ("FAILED", 0)),
    (HELD, "complete", "cancel", "waited: ignored", "waited: requested", ("READY", 0)),
    (HELD, "cancel", "complete", "waited: None", "waited: None", ("READY", 0)),
    (HELD, "fail", "cancel", "waited: cancelled", "waited: requested", ("FAILED", 0)),
    (HELD, "cancel", "fail", "waited: FAILED", "waited: UPLOADED", ("FAILED", 0)),
    (HELD, "cancel", "release", "waited: FAILED", "waited: UPLOADED", ("FAILED", 0)),
    (HELD, "cancel", "renew", "waited: True", "waited: False", ("PROCESSING", 0)),
    (HELD, "complete", "fail", "waited: LeaseLost", "waited: UPLOADED", ("READY", 0)),
    (HELD, "complete", "complete", "waited: None", "waited: None", ("READY", 0)),
    (HELD, "complete", "abandon", "waited: None", "waited: UPLOADED", ("READY", 0)),
    (HELD, "complete", "renew", "waited: LeaseLost", "waited: False", ("READY", 0)),
    (HELD, "complete", "adopt", "waited: LeaseLost", "waited: None", ("READY", 0)),
    (HELD, "complete", "redo", "waited: LeaseLost", "waited: None", ("READY", 0)),
    (HELD, "abandon", "complete", "waited: LeaseLost", "waited: None", ("UPLOADED", 1)),
    (HELD, "abandon", "abandon", "waited: UPLOADED", "waited: UPLOADED", ("UPLOADED", 1)),
    (HELD, "release", "claim", "at once: locked", "at once: locked", ("UPLOADED", 0)),
    (HELD, "release", "abandon", "waited: None", "waited: UPLOADED", ("UPLOADED", 0)),
    (EXPIRED, "renew", "reclaim_expired", "at once: 0", "at once: 0", ("PROCESSING", 0)),
    (EXPIRED, "renew", "reclaim_silent", "at once: 0", "at once: 0", ("PROCESSING", 0)),
    (EXPIRED, "renew", "try_reclaim", "waited: False", "waited: True", ("PROCESSING", 0)),
    (EXPIRED, "complete", "reclaim_expired", "at once: 0", "at once: 0", ("READY", 0)),
    (EXPIRED, "complete", "try_reclaim", "waited: False", "waited: True", ("READY", 0)),
    (EXPIRED, "reclaim_expired", "renew", "waited: LeaseLost", "waited: False", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_expired", "complete", "waited: LeaseLost", "waited: None", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_expired", "fail", "waited: LeaseLost", "waited: UPLOADED", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_expired", "release", "waited: LeaseLost", "waited: UPLOADED", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_expired", "abandon", "waited: None", "waited: UPLOADED", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_expired", "reclaim_expired", "at once: 0", "at once: 0", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_expired", "reclaim_silent", "at once: 0", "at once: 0", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_silent", "reclaim_expired", "at once: 0", "at once: 0", ("UPLOADED", 1)),
    (EXPIRED, "reclaim_silent", "complete", "waited: LeaseLost", "waited: None", ("UPLOADED", 1)),
    (EXPIRED, "release", "reclaim_expired", "at once: 0", "at once: 0", ("UPLOADED", 0)),
    (EXPIRED, "reclaim_expired", "cancel", "waited: cancelled", "waited: requested", ("FAILED", 0)),
    (EXPIRED, "reclaim_expired", "claim", "at once: locked", "at once: locked", ("UPLOADED", 1)),
]
#: First statement, second, told after commit and after rollback; and the states of the chunks after the commit.
CHUNKS: list[tuple[str, str, str, str, list[str]]] = [
    ("redo", "claim_chunk", "at once: None", "at once: None", ["TODO", "RUNNING", "RUNNING"]),
    ("redo", "claim_assist", "at once: None", "at once: None", ["TODO", "RUNNING", "RUNNING"]),
    ("redo", "redo", "waited: None", "waited: None", ["TODO", "RUNNING", "RUNNING"]),
    ("redo", "complete", "waited: None", "waited: None", ["TODO", "RUNNING", "RUNNING"]),
    ("done", "release_chunk", "waited: ChunkLost", "waited: None", ["DONE", "RUNNING", "DONE"]),
    ("done", "done", "waited: None", "waited: None", ["DONE", "RUNNING", "DONE"]),
    ("done", "abandon_chunk", "waited: False", "waited: True", ["DONE", "RUNNING", "DONE"]),
    ("done", "redo", "at once: None", "at once: None", ["TODO", "RUNNING", "DONE"]),
    ("release_chunk", "done", "waited: ChunkLost", "waited: None", ["DONE", "RUNNING", "TODO"]),
    ("release_chunk", "renew_chunk", "waited: ChunkLost", "waited: None", ["DONE", "RUNNING", "TODO"]),
    ("release_chunk", "claim_chunk", "at once: None", "at once: None", ["DONE", "RUNNING", "TODO"]),
    ("abandon_chunk", "done", "waited: ChunkLost", "waited: None", ["DONE", "RUNNING", "TODO"]),
    ("renew_chunk", "done", "waited: None", "waited: None", ["DONE", "RUNNING", "DONE"]),
]


def prepare(act: Act, state: str) -> None:
    if state == WAITING:
        act.scene.leases.release(act.lease, reason="drain", receipt={})
    elif state == EXPIRED:
        act.scene.advance(LEASE_SECONDS + 1)


@pytest.mark.parametrize(("state", "before", "after", "committed", "undone", "row"), VIDEO)
def test_two_statements_meet_at_a_video(act: Act, state, before, after, committed, undone, row) -> None:
    prepare(act, state)
    claims = {"token": FIRST_TOKEN} if before.startswith("claim") else {}
    met = act.scene.beside(act.first(before, **claims), second(act)[after])
    assert told(met) == committed
    found = act.scene.row(act.lease.video_id)
    assert (found["status"], found["losses"]) == row
    assert_sound(act)


@pytest.mark.parametrize(("state", "before", "after", "committed", "undone", "row"), VIDEO)
def test_a_statement_that_was_undone_was_never_there(act: Act, state, before, after, committed, undone, row) -> None:
    prepare(act, state)
    claims = {"token": FIRST_TOKEN} if before.startswith("claim") else {}
    met = act.scene.beside(act.first(before, **claims), second(act)[after], end="ROLLBACK")
    assert told(met) == undone
    assert_sound(act)


@pytest.mark.parametrize(("before", "after", "committed", "undone", "states"), CHUNKS)
def test_two_statements_meet_at_a_chunk(act: Act, before, after, committed, undone, states) -> None:
    chunk = {} if before == "redo" else {"token": act.helped.token, "number": act.helped.number}
    met = act.scene.beside(act.first(before, **chunk), second(act)[after])
    assert told(met) == committed
    assert act.scene.states(act.lease.video_id) == states
    assert_sound(act)


@pytest.mark.parametrize(("before", "after", "committed", "undone", "states"), CHUNKS)
def test_a_chunks_statement_that_was_undone_was_never_there(act: Act, before, after, committed, undone, states) -> None:
    chunk = {} if before == "redo" else {"token": act.helped.token, "number": act.helped.number}
    met = act.scene.beside(act.first(before, **chunk), second(act)[after], end="ROLLBACK")
    assert told(met) == undone
    assert_sound(act)


@pytest.mark.parametrize("before", ["claim_chunk", "claim_assist"])
@pytest.mark.parametrize("after", ["claim_chunk", "claim_assist"])
def test_two_never_take_the_same_chunk(act: Act, before, after) -> None:
    act.scene.chunks.redo(act.lease, 0)
    act.scene.chunks.release_chunk(act.helped)
    met = act.scene.beside(act.first(before, token=FIRST_TOKEN, assisted=before == "claim_assist"), second(act)[after])
    assert told(met) == "at once: ChunkLease"
    assert met.answer.number == 2
    tokens = [row["token"] for row in act.scene.admin.chunks(act.lease.video_id)]
    assert tokens == [str(FIRST_TOKEN), str(act.own.token), str(met.answer.token)]


def assert_sound(act: Act) -> None:
    """Whatever met: a lease is an open attempt, and nobody else's row was touched."""
    open_ones = [row["token"] for row in act.scene.admin.attempts(act.lease.video_id) if row["outcome"] is None]
    row = act.scene.row(act.lease.video_id)
    assert open_ones == ([row["token"]] if row["token"] else [])
    assert (row["status"] == "PROCESSING") == (row["token"] is not None)
    act.scene.assert_bystanders()
