"""A walk through the model, taken on real PostgreSQL through the real statements at the same time."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch
from uuid import UUID

from appliance.adapters.postgres import chunks
from appliance.adapters.postgres.chunks import Assist
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.sweeps import Held, Sweeps
from appliance.domain.errors import LeaseLost
from appliance.domain.retry import Decision
from appliance.domain.video import ChunkLease, Lease
from tests.adapters.postgres.scene import BUILD, HELPER, OBJECTS, Scene, make_plan
from tests.adapters.postgres.stage import WORKER
from tests.model.invariants import Label
from tests.model.moves import moves
from tests.model.state import Chunk, Video, World, first
from tests.model.statements import MAX_DEATHS, MAX_LOSSES, Guards

WITNESS_SECONDS = 60.0
ROWS = """
SELECT status, lease_token::text AS token, lease_epoch::int AS epoch,
       CASE WHEN leased_until < now() THEN 2 WHEN renewed_at < now() - interval '60 s' THEN 1 ELSE 0 END AS age,
       cancel_requested_at IS NOT NULL AS cancel, failure_count AS failures, loss_count AS losses,
       coalesce(run_after, '-infinity') <= now() AS due, coalesce(next_ring_at, '-infinity') <= now() AS ring, plan
FROM video WHERE id = %s
"""
CHUNKS = """
SELECT plan, number, state, token::text, coalesce(epoch, 0)::int AS epoch,
       coalesce((leased_until < now())::int, -1) AS late, assisted, assistant_losses AS deaths
FROM video_chunk WHERE video_id = %s
"""
#: Steps of the model that no statement of ours takes.
ELSEWHERE = {"receive", "crash", "vanish", "assemble", "flush", "beat ends", "another source"}
ELSEWHERE |= {"lose a message", "double a message"}
#: Those that are; each must have been walked.
STATEMENTS = {"claim", "claim_next", "ask_again", "renew", "adopt", "complete", "fail", "release", "abandon", "redo"}
STATEMENTS |= {"reclaim_expired", "reclaim_silent", "judge", "due_rings", "cancel", "resubmit"}
STATEMENTS |= {"claim_chunk", "claim_assist", "done", "renew_chunk", "release_chunk", "abandon_chunk"}
STEPS = 40


def walked(scene: Scene, seed: int, walks: int) -> Counter[str]:
    """How often each step was taken in so many walks, and in more until none is left out.

    Raises AssertionError with the story where model and rows part.
    """
    took: Counter[str] = Counter()
    with patch.object(chunks, "MAX_ASSISTANTS", MAX_DEATHS):
        for walk in range(5 * walks):
            if walk >= walks and set(took) >= STATEMENTS:
                break
            scene.reset()
            start = first(chunks=1 + walk % 2, plans=2, budget=6)
            try:
                Replay(scene, start, took).walk(random.Random(f"{seed}/{walk}"), STEPS)
                scene.assert_bystanders()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, walk {walk}: {error}") from error
    return took


class Replay:
    """`took` counts the steps by name, over several walks: what was rare is preferred."""

    def __init__(self, scene: Scene, start: World, took: Counter[str]) -> None:
        self._scene, self.world, self.took = scene, start, took
        self._leases = Leases(scene.database, lease_seconds=180, max_losses=MAX_LOSSES, locked_wait_seconds=0)
        self._sweeps = Sweeps(scene.database, max_losses=MAX_LOSSES)
        self._tokens: dict[int, UUID] = {}
        self._judged: list[Held] = []
        self._video = scene.submit()

    def walk(self, luck: random.Random, steps: int) -> list[Label]:
        """Any way through the model; raises AssertionError where the rows are not what the model says."""
        told: list[Label] = []
        for _ in range(steps):
            choices = list(moves(self.world, Guards()))
            if not choices:
                break
            ((label, _, after),) = luck.choices(choices, [self._weight(label, cost) for label, cost, _ in choices])
            told.append(label)
            self.took[_step(label)] += 1
            try:
                self._take(label, after)
            except Exception as error:
                raise AssertionError(f"{error}\nafter {told}") from error
            self.world = after
        return told

    def _weight(self, label: Label, cost: int) -> float:
        """Work goes on mostly, faults are rare, and what was rare so far is not."""
        works = _step(label) in STATEMENTS and len(label) > 1
        return (0.1 if cost else 1) * (5 if works else 1) / (1 + self.took[_step(label)])

    def _take(self, label: Label, after: World) -> None:
        name = _step(label)
        rest = label[label.index(name) + 1 :]
        if name in ELSEWHERE:
            return
        getattr(self, f"_{name.replace(' ', '_')}")(after, *rest)
        assert self._rows() == after.video
        assert self._outcomes() == after.attempts
        assert self._chunks() == after.chunks

    # ---- the video's statements

    def _claim(self, after: World, index: int) -> None:
        token = uuid.uuid4()
        claimed = self._leases.claim(self._video, WORKER, token)
        self._claimed(after, token, isinstance(claimed, Lease))

    def _claim_next(self, after: World, index: int) -> None:
        token = uuid.uuid4()
        self._claimed(after, token, self._leases.claim_next(WORKER, token) is not None)

    def _claimed(self, after: World, token: UUID, taken: bool) -> None:
        assert taken == (after.video.epoch > self.world.video.epoch)
        if taken:
            self._tokens[after.video.epoch] = token

    def _ask_again(self, after: World, index: int) -> None:
        token = self._tokens[self.world.workers[index].token]
        claimed = self._leases.claim(self._video, WORKER, token)
        assert isinstance(claimed, Lease) == (after.workers[index].kind == "owner")

    def _renew(self, after: World, index: int) -> None:
        kept = self._kept(lambda: self._told(self._leases.renew(self._lease(index))))
        assert kept == (after.workers[index].kind == "owner")

    def _told(self, cancel: bool) -> None:
        assert cancel == self.world.video.cancel

    def _adopt(self, after: World, index: int, plan: int) -> None:
        adopted = make_plan(f"plan-{plan}", len(self.world.chunks[0]))
        kept = self._kept(lambda: self._scene.chunks.adopt(self._lease(index), adopted, BUILD))
        assert kept == (after.workers[index].kind == "owner")

    def _complete(self, after: World, index: int) -> None:
        done = {"hls_path": "x", "duration_seconds": 1.0, "receipt": {}}
        kept = self._kept(lambda: self._leases.complete(self._lease(index), **done))
        assert kept == (after.attempts[self.world.workers[index].token - 1] == "ready")

    def _fail(self, after: World, index: int, how: str) -> None:
        lease = self._lease(index)
        if how == "cancelled":
            self._kept(lambda: self._leases.cancelled(lease, receipt={}))
            return
        decision = Decision("encode_failed", "It failed.", None if how == "final" else 30.0)
        self._kept(lambda: self._leases.fail(lease, decision, receipt={}))

    def _release(self, after: World, index: int) -> None:
        self._kept(lambda: self._leases.release(self._lease(index), reason="drain", receipt={}))

    def _abandon(self, after: World, index: int) -> None:
        self._leases.abandon(self._tokens[self.world.workers[index].token])

    def _reclaim_expired(self, after: World) -> None:
        assert [row.video_id for row in self._sweeps.reclaim_expired(9)] == [self._video]

    def _judge(self, after: World) -> None:
        self._judged = [held for held in self._sweeps.processing_page(0, 9) if held.video_id == self._video]
        assert [held.token for held in self._judged] == [self._tokens[after.judged]]

    def _reclaim_silent(self, after: World) -> None:
        taken = self._sweeps.reclaim_silent(self._judged, WITNESS_SECONDS)
        assert bool(taken) == (after.video != self.world.video)

    def _due_rings(self, after: World) -> None:
        assert [ring.video_id for ring in self._sweeps.due_rings(9, 60)] == [self._video]

    def _cancel(self, after: World) -> None:
        self._leases.cancel(self._video)

    def _resubmit(self, after: World) -> None:
        assert self._leases.resubmit(self._video)

    # ---- the chunks' statements

    def _claim_chunk(self, after: World, index: int, token: int) -> None:
        taken = self._scene.chunks.claim_chunk(self._lease(index), UUID(int=token))
        # not by the chunk's own token: an unanswered claim may have left it there before the video was taken away
        assert (taken is not None) == (after.workers[index].chunk == token)

    def _claim_assist(self, after: World, index: int, token: int) -> None:
        found = self._scene.chunks.claim_assist(HELPER, UUID(int=token), BUILD)
        assert isinstance(found, Assist)
        helper = after.workers[index]
        assert (found.chunk.plan, found.chunk.number) == (f"plan-{helper.plan}", helper.number)

    def _done(self, after: World, index: int) -> None:
        self._kept(lambda: self._scene.chunks.done(self._chunk(index), OBJECTS))

    def _renew_chunk(self, after: World, index: int) -> None:
        kept = self._kept(lambda: self._scene.chunks.renew_chunk(self._chunk(index)))
        assert kept == (after.workers[index].chunk == self.world.workers[index].chunk)

    def _release_chunk(self, after: World, index: int) -> None:
        self._kept(lambda: self._scene.chunks.release_chunk(self._chunk(index)))

    def _abandon_chunk(self, after: World, index: int) -> None:
        abandoned = self._scene.chunks.abandon_chunk(UUID(int=self.world.workers[index].chunk))
        assert abandoned == (after.chunks != self.world.chunks)

    def _redo(self, after: World, index: int, number: int) -> None:
        kept = self._kept(lambda: self._scene.chunks.redo(self._lease(index), number))
        assert kept == (after.workers[index].kind == "owner")

    # ---- time and the platform

    def _age(self, after: World, age: int) -> None:
        assignment = "renewed_at = now() - interval '61 s'" if age == 1 else "leased_until = now() - interval '1 s'"
        self._scene.hand(self._video, assignment)

    def _due(self, after: World) -> None:
        self._scene.hand(self._video, "run_after = now(), next_ring_at = now()")

    def _ring_due(self, after: World) -> None:
        self._scene.hand(self._video, "next_ring_at = now()")

    def _late(self, after: World, plan: int, number: int) -> None:
        late = "UPDATE video_chunk SET leased_until = now() - interval '1 s'"
        self._scene.admin(f"{late} WHERE (video_id, plan, number) = (%s, %s, %s)", self._video, f"plan-{plan}", number)

    def _hand(self, after: World, what: str) -> None:
        later = "run_after = now() + interval '1 hour'"
        self._scene.hand(self._video, later if what == "later" else f"status = '{what}'")

    # ---- what is held, and what is seen

    def _kept(self, write: Callable[[], object]) -> bool:
        with contextlib.suppress(LeaseLost):
            write()
            return True
        return False

    def _lease(self, index: int) -> Lease:
        epoch = self.world.workers[index].token
        return Lease(self._video, 3, "a.mp4", self._tokens[epoch], epoch, WORKER)

    def _chunk(self, index: int) -> ChunkLease:
        worker = self.world.workers[index]
        return ChunkLease(self._video, f"plan-{worker.plan}", worker.number, UUID(int=worker.chunk))

    def _rows(self) -> Video:
        (row,) = self._scene.admin(ROWS, self._video)
        epochs: dict[str | None, int] = {str(token): epoch for epoch, token in self._tokens.items()}
        row["token"] = {**epochs, None: 0}[row["token"]]
        row["plan"] = int(row["plan"][5:]) if row["plan"] else 0
        return Video(**row)

    def _outcomes(self) -> tuple[str, ...]:
        return tuple(outcome or "" for outcome in self._scene.outcomes(self._video))

    def _chunks(self) -> tuple[tuple[Chunk, ...], ...]:
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self._scene.admin(CHUNKS, self._video):
            row["token"] = UUID(row["token"]).int if row["token"] else 0
            found[row.pop("plan"), row.pop("number")] = row
        return tuple(
            tuple(Chunk(**found.get((f"plan-{plan}", number), {})) for number in range(len(chunks)))
            for plan, chunks in enumerate(self.world.chunks, 1)
        )


def _step(label: Label) -> str:
    return str(label[1] if label[0] == "unanswered" else label[0])
