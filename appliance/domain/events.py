"""What a child tells its parent: one small event per step, over its pipe.

A token is announced before the statement that uses it, so a parent whose child dies in between still knows what to
abandon; abandoning a token that never took a row changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True)
class Booted:
    """The child has its connections and enters its loop."""

    pid: int


@dataclass(frozen=True)
class Alive:
    """The main loop turned. `dependencies`: name → answered, as this child saw it last."""

    dependencies: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Claiming:
    """The child is about to claim a video under this token."""

    token: UUID


@dataclass(frozen=True)
class NotClaimed:
    """The announced claim took no row."""

    token: UUID


@dataclass(frozen=True)
class Claimed:
    """The child owns the video."""

    token: UUID
    video_id: int
    tenant_id: int | None
    epoch: int
    waited_seconds: float


@dataclass(frozen=True)
class ChunkClaiming:
    """The child is about to claim a chunk under this token."""

    token: UUID


@dataclass(frozen=True)
class Assisting:
    """The announced claim took a chunk of a video that somebody else owns; ChunkEnded ends it."""

    token: UUID
    video_id: int
    tenant_id: int | None
    number: int


@dataclass(frozen=True)
class ChunkEnded:
    """The chunk is encoded, assisted (encoded by somebody who does not own the video), released, lost, or was none."""

    token: UUID | None
    outcome: str
    encode_seconds: float = 0.0
    media_seconds: float = 0.0
    bytes_out: int = 0


@dataclass(frozen=True)
class Progress:
    """Where the running job is. `percent` 0–100 of the whole video (an assistant's: of its chunk); `speed` in media
    seconds per second; `chunk` the number of the one that is being encoded.
    """

    video_id: int
    percent: float
    step: str
    speed: float | None = None
    remaining_seconds: float | None = None
    chunk: int | None = None


@dataclass(frozen=True)
class Settled:
    """The job ended and the row says so. `receipt` is the attempt's as a JSON-able dict; `step` is where it ended."""

    token: UUID
    video_id: int
    outcome: str
    error_code: str | None = None
    receipt: dict[str, object] = field(default_factory=dict)
    step: str = ""


@dataclass(frozen=True)
class Counted:
    """A counter went up: `metric` is a name of supervisor.metrics.COUNTERS, `labels` its label values."""

    metric: str
    amount: float = 1.0
    labels: tuple[str, ...] = ()


Event = (
    Booted
    | Alive
    | Claiming
    | NotClaimed
    | Claimed
    | ChunkClaiming
    | Assisting
    | ChunkEnded
    | Progress
    | Settled
    | Counted
)

#: The steps of a job that people see, in their order.
STEPS = ("fetch", "probe", "encode", "publish", "prove")

#: Exit statuses of a child that its parent understands (sysexits.h).
EXIT_DONE = 0
#: The configuration is wrong: restarting would not help.
EXIT_CONFIG = 78
#: The heartbeat thread hung and cannot be ended: the process gave its job back and makes way for a fresh one.
EXIT_HEARTBEAT = 75
#: Something that passes stood in the way of starting: the pool tries again, more slowly each time.
EXIT_NOT_STARTED = 69
#: The supervisor went away and the child ended its own work.
EXIT_ORPHANED = 70
