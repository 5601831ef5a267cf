"""The video's row: its states, the edges between them, and the lease that owns it.

                submit           claim              complete
    PENDING ──────────▶ UPLOADED ──────▶ PROCESSING ─────────▶ READY
    (platform)           ▲ ▲  │ ◀──────────┘   │                 │
                         │ │  │  fail(retry)   │ fail, cancelled │
                         │ │  │  release       ▼                 │
                         │ │  └─────────────▶ FAILED             │
                         │ │   cancel          │                 │
                         │ └───────────────────┘ resubmit        │
                         └───────────────────────────────────────┘ resubmit

`TRANSITIONS` is that picture as data. The statements in `adapters/postgres/*.sql` each declare their edges, and a
test holds the three against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


class Status(StrEnum):
    """The values of the `status` column."""

    #: The platform made a row; its upload has not ended. Ours to touch only when a person submits it by its id.
    PENDING = "PENDING"
    #: The source lies in S3 and waits for an encoder, from `run_after` on.
    UPLOADED = "UPLOADED"
    #: One process owns it: the one that holds `lease_token`.
    PROCESSING = "PROCESSING"
    #: `hls_path` names a stream that was proven whole.
    READY = "READY"
    #: `error_code` and `error_reason` say why there is no stream.
    FAILED = "FAILED"


Edge = tuple[Status, Status]

#: Every edge that a statement of ours may take, and the statements that take it.
TRANSITIONS: dict[Edge, frozenset[str]] = {
    (Status.UPLOADED, Status.PROCESSING): frozenset({"claim", "claim_next"}),
    (Status.PROCESSING, Status.READY): frozenset({"complete"}),
    (Status.PROCESSING, Status.FAILED): frozenset(
        {"fail", "release", "abandon", "reclaim_expired", "reclaim_silent", "try_reclaim"}
    ),
    (Status.PROCESSING, Status.UPLOADED): frozenset(
        {"fail", "release", "abandon", "reclaim_expired", "reclaim_silent", "try_reclaim"}
    ),
    (Status.UPLOADED, Status.FAILED): frozenset({"cancel"}),
    (Status.FAILED, Status.UPLOADED): frozenset({"resubmit"}),
    (Status.READY, Status.UPLOADED): frozenset({"resubmit"}),
    (Status.PENDING, Status.UPLOADED): frozenset({"submit", "hand_in"}),
}


@dataclass(frozen=True)
class Worker:
    """Who claims: `name` goes into `leased_by` (at most 64 characters), for people to read; identity is the token."""

    host: str
    name: str


@dataclass(frozen=True)
class Lease:
    """The proof that this process owns the video: every ownership write carries `token`."""

    video_id: int
    tenant_id: int | None
    file_key: str
    token: UUID
    epoch: int
    worker: Worker
    #: Encode errors so far (`fail` compares them with `max_attempts`).
    failure_count: int = 0
    #: Reclaims since the last newly finished chunk.
    loss_count: int = 0
    #: Epoch of the attempt whose stream is published, 0 when none was; the plan's generation.
    finished_epoch: int = 0
    #: Seconds the row waited, due, before this claim.
    waited_seconds: float = 0.0


class ClaimMiss(StrEnum):
    """Why a claim took no row."""

    #: Another transaction holds the row; it may become free.
    LOCKED = "locked"
    #: PROCESSING under somebody else's token.
    OWNED = "owned"
    READY = "ready"
    FAILED = "failed"
    PENDING = "pending"
    #: UPLOADED with `run_after` in the future.
    NOT_DUE = "not_due"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ChunkLease:
    """The proof that this process encodes the chunk: `renew_chunk` and `done` carry `token` and the plan."""

    video_id: int
    plan: str
    number: int
    token: UUID
    #: Times the chunk was begun, this one included.
    attempts: int = 1


@dataclass(frozen=True)
class DoneChunk:
    """A finished chunk: `objects` is what its encoder recorded (see streams.segments.ChunkObjects)."""

    number: int
    token: UUID
    #: Epoch of the owner for whom it was begun; smaller than the lease's epoch means resumed.
    epoch: int
    objects: dict[str, Any]
    #: Encoded by somebody who did not own the video.
    assisted: bool = False
