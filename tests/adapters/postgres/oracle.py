"""What the statements should do, in seconds and in plain Python: the oracle of the stateful tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

from tests.adapters.postgres.stage import CHUNK_LEASE_SECONDS, LEASE_SECONDS, MAX_LOSSES

MAX_ASSISTANTS = 2
WITNESS_SECONDS = 60.0
FIRST_RING_SECONDS = 60.0


@dataclass
class Chunk:
    state: str = "TODO"
    token: UUID | None = None
    epoch: int | None = None
    until: float | None = None
    assisted: bool = False
    losses: int = 0

    def back(self, *, lost: bool = False) -> None:
        self.state, self.token, self.until = "TODO", None, None
        self.losses += lost and self.assisted
        self.assisted = False


@dataclass
class Row:
    """Times are seconds since the beginning; None: never, or now."""

    due: float | None
    ring: float | None
    status: str = "UPLOADED"
    token: UUID | None = None
    epoch: int = 0
    until: float | None = None
    renewed: float | None = None
    rings: int = 0
    failures: int = 0
    losses: int = 0
    cancel: bool = False
    cut: bool = False
    outcomes: list[str | None] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def is_due(self, now: float) -> bool:
        return self.status == "UPLOADED" and (self.due is None or self.due <= now)

    def held_by(self, token: UUID) -> bool:
        return self.status == "PROCESSING" and self.token == token

    def claim(self, token: UUID, now: float) -> None:
        self.outcomes = ["superseded" if outcome is None else outcome for outcome in self.outcomes]
        self.status, self.token, self.epoch = "PROCESSING", token, self.epoch + 1
        self.until, self.renewed, self.cancel = now + LEASE_SECONDS, now, False
        self.outcomes.append(None)

    def renew(self, now: float) -> None:
        self.until, self.renewed = now + LEASE_SECONDS, now

    def end(self, outcome: str, *, final: bool, due: float) -> None:
        """FAILED, as if it had no past, or back to the queue."""
        self.outcomes[self.epoch - 1] = outcome
        self.status = "FAILED" if final else "UPLOADED"
        self.due = self.ring = None if final else due
        self.rings, self.cancel = 0, False
        self.token = self.until = self.renewed = None
        if final:
            self.failures = self.losses = 0

    def complete(self) -> None:
        self.end("ready", final=True, due=0)
        self.status = "READY"

    def fail(self, now: float, wait: float | None) -> None:
        cancelled, self.failures = self.cancel, self.failures + 1
        outcome = "cancelled" if cancelled else "failed" if wait is None else "retried"
        self.end(outcome, final=cancelled or wait is None, due=now + (wait or 0))

    def release(self, now: float, wait: float) -> None:
        self.end("cancelled" if self.cancel else "released", final=self.cancel, due=now + wait)

    def lose(self, outcome: str, now: float) -> None:
        self.losses += 1
        self.end(outcome, final=self.cancel or self.losses >= MAX_LOSSES, due=now)

    def expired(self, now: float) -> bool:
        return self.status == "PROCESSING" and (self.until is None or self.until < now)

    def silent(self, now: float) -> bool:
        return self.status == "PROCESSING" and (self.renewed is None or self.renewed < now - WITNESS_SECONDS)

    def mark(self) -> str:
        if self.status == "UPLOADED":
            self.status, self.due, self.ring, self.rings = "FAILED", None, None, 0
            self.failures, self.losses, self.cancel = 0, 0, False
            return "cancelled"
        if self.status == "PROCESSING":
            self.cancel = True
            return "requested"
        return "ignored"

    def resubmit(self, now: float) -> bool:
        if self.status not in {"READY", "FAILED"}:
            return False
        self.status, self.due, self.ring, self.rings = "UPLOADED", now, now, 0
        self.failures, self.losses, self.cancel = 0, 0, False
        return True

    def rung(self, now: float) -> bool:
        if not self.is_due(now) or not (self.ring is None or self.ring <= now):
            return False
        self.ring = now + min(3600.0, FIRST_RING_SECONDS * 2**self.rings)
        self.rings += 1
        return True

    def free_for_owner(self, now: float) -> int | None:
        free = (
            number
            for number, chunk in enumerate(self.chunks)
            if chunk.state == "TODO"
            or (chunk.state == "RUNNING" and chunk.assisted and (chunk.until or 0) < now)
            or (chunk.state == "RUNNING" and not chunk.assisted and (chunk.epoch or 0) < self.epoch)
        )
        return next(free, None)

    def free_for_assistant(self, now: float) -> int | None:
        if self.status != "PROCESSING" or self.cancel or not self.cut:
            return None
        free = (
            number
            for number, chunk in enumerate(self.chunks)
            if (chunk.state == "TODO" or (chunk.state == "RUNNING" and chunk.assisted and (chunk.until or 0) < now))
            and chunk.losses + chunk.assisted < MAX_ASSISTANTS
        )
        return next(free, None)

    def take(self, number: int, token: UUID, now: float, *, assisted: bool) -> None:
        before = self.chunks[number]
        self.chunks[number] = replace(
            before,
            state="RUNNING",
            token=token,
            epoch=self.epoch,
            until=now + CHUNK_LEASE_SECONDS,
            assisted=assisted,
            losses=before.losses + before.assisted,
        )

    def encodes(self, number: int, token: UUID) -> bool:
        """Whether whoever holds this token may still renew the chunk and finish it."""
        chunk = self.chunks[number]
        alive = self.status in {"UPLOADED", "PROCESSING"} and not (self.cancel and chunk.assisted)
        return alive and chunk.state == "RUNNING" and chunk.token == token
