"""The board: what the main loop and the reconcile thread saw last, for whoever shows it (metrics, health, the page).

Each value is replaced whole by its one writer, so readers in other threads need no lock and wait for nobody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from appliance.adapters.postgres.reports import AtWork
from appliance.domain.events import Assisting, Claimed
from appliance.domain.notice import Notice, Seen
from appliance.supervisor.history import History
from appliance.supervisor.pool import Slot, State

#: The loop turns every second; after this long without a turn it is stuck.
STUCK_SECONDS = 10.0


@dataclass(frozen=True)
class SlotView:
    """One slot as shown. `since_seconds`: for how long it has been in this state.

    `role`: `owner` of the video or `assist`, empty without work; `chunk`: the number of the one being encoded;
    `elapsed_seconds`: since the work began; `leaves_in_seconds`: what a draining one may still take.
    """

    slot: int
    state: str
    pid: int | None
    since_seconds: float
    restarts: int
    video_id: int | None
    percent: float | None
    step: str
    speed: float | None
    remaining_seconds: float | None
    #: Since it last renewed the lease of its own video; None while it owns none.
    heartbeat_age_seconds: float | None = None
    tenant_id: int | None = None
    role: str = ""
    chunk: int | None = None
    elapsed_seconds: float | None = None
    leaves_in_seconds: float | None = None


@dataclass
class Board:
    """`ticked_at` and `started_at` are monotonic, `reconciled_at` Unix time for Prometheus."""

    started_at: float
    ticked_at: float
    draining: bool = False
    #: Encoders that this host carries while it works.
    encoders: int = 0
    slots: tuple[SlotView, ...] = ()
    #: UPLOADED, PROCESSING → rows; None until the database was asked once.
    backlog: dict[str, int] | None = None
    oldest_due_seconds: float | None = None
    #: When the backlog was learnt, monotonic.
    learnt_at: float | None = None
    #: Rows and the fleet as they were at `seen_at` (monotonic), learnt only while somebody looks at the page.
    recent: tuple[dict[str, Any], ...] = ()
    at_work: AtWork | None = None
    seen_at: float | None = None
    history: History = field(default_factory=lambda: History(15.0))
    reconciled_at: float | None = None
    #: Layers of ffmpeg's cage → whether they hold on this host; empty until tried.
    sandbox: dict[str, bool] = field(default_factory=dict)
    #: What EC2 calls this host (empty: it has not said), what it says of it, and what that means.
    instance_id: str = ""
    seen: Seen = field(default_factory=Seen)
    notice: Notice | None = None
    #: Whether its Auto Scaling group was told to leave it alone; None: nothing was told.
    protected: bool | None = None
    #: Lines about ourselves that an operator should see, by topic.
    notices: dict[str, str] = field(default_factory=dict)

    def stuck_seconds(self, now: float) -> float | None:
        """How long the main loop has not turned, when that is too long."""
        silent = now - self.ticked_at
        return silent if silent > STUCK_SECONDS else None

    @property
    def taken_away(self) -> str:
        """Why this host's work is handed over, in EC2's name; empty: it is not."""
        return self.notice.sentence if self.notice and self.notice.drains else ""

    def unready(self, down: dict[str, float | None]) -> list[str]:
        """Why no work is taken here, in words; empty: ready."""
        reasons = [f"draining: {self.taken_away or 'the supervisor is leaving'}"] if self.draining else []
        if not any(slot.state in (State.IDLE, State.BUSY) for slot in self.slots):
            reasons.append("no encoder is running")
        if (seconds := down.get("postgres")) is not None:
            reasons.append(f"postgres has not answered for {seconds:.0f} s; no work is taken meanwhile")
        return reasons

    def status(self, now: float, down: dict[str, float | None]) -> dict[str, Any]:
        """The state of this host, for the log; the page's JSON adds to it (web/shape.py)."""
        return {
            "uptime_seconds": round(now - self.started_at, 1),
            "draining": self.draining,
            "unready": self.unready(down),
            "notices": dict(self.notices),
            "slots": [asdict(slot) for slot in self.slots],
            "backlog": self.backlog,
            "oldest_due_seconds": self.oldest_due_seconds,
            "sandbox": self.sandbox,
            "dependencies": {name: seconds is None for name, seconds in down.items()},
        }


def view(slot: Slot, now: float) -> SlotView:
    job, progress = slot.job, slot.progress
    assists = isinstance(job, Assisting)
    leaving = slot.state is State.DRAINING
    return SlotView(
        slot=slot.number,
        state=slot.state,
        pid=slot.tokens.pid if slot.process else None,
        since_seconds=round(now - slot.since, 1),
        restarts=slot.crashes,
        video_id=job.video_id if job else None,
        percent=progress.percent if progress else None,
        step=progress.step if progress else "assist" if assists else "",
        speed=progress.speed if progress else None,
        remaining_seconds=progress.remaining_seconds if progress else None,
        tenant_id=job.tenant_id if job else None,
        role="" if not job else "assist" if assists else "owner",
        chunk=progress.chunk if progress else job.number if isinstance(job, Assisting) else None,
        elapsed_seconds=round(now - slot.job_at, 1) if job else None,
        leaves_in_seconds=round(max(0.0, slot.release_at - now), 1) if leaving else None,
        heartbeat_age_seconds=round(now - slot.renewed_at, 1) if isinstance(job, Claimed) else None,
    )
