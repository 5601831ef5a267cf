"""The board: what the main loop and the reconcile thread saw last, for whoever shows it (metrics, health, the page).

Each value is replaced whole by its one writer, so readers in other threads need no lock and wait for nobody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from appliance.domain.events import Assisting, Claimed
from appliance.supervisor.pool import Slot, State

#: The loop turns every second; after this long without a turn it is stuck.
STUCK_SECONDS = 10.0


@dataclass(frozen=True)
class SlotView:
    """One slot as shown. `since_seconds`: for how long it has been in this state."""

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


@dataclass
class Board:
    """`ticked_at` and `started_at` are monotonic, `reconciled_at` Unix time for Prometheus."""

    started_at: float
    ticked_at: float
    draining: bool = False
    slots: tuple[SlotView, ...] = ()
    #: UPLOADED, PROCESSING → rows; None until the database was asked once.
    backlog: dict[str, int] | None = None
    oldest_due_seconds: float | None = None
    recent: tuple[dict[str, Any], ...] = ()
    reconciled_at: float | None = None
    #: Layers of ffmpeg's cage → whether they hold on this host; empty until tried.
    sandbox: dict[str, bool] = field(default_factory=dict)
    #: EC2 has said that it takes this host away.
    spot_notice: bool = False
    #: Lines about ourselves that an operator should see, by topic.
    notices: dict[str, str] = field(default_factory=dict)

    def stuck_seconds(self, now: float) -> float | None:
        """How long the main loop has not turned, when that is too long."""
        silent = now - self.ticked_at
        return silent if silent > STUCK_SECONDS else None

    def unready(self, down: dict[str, float | None]) -> list[str]:
        """Why no work is taken here, in words; empty: ready."""
        reasons = ["draining: the supervisor is leaving"] if self.draining else []
        if not any(slot.state in (State.IDLE, State.BUSY) for slot in self.slots):
            reasons.append("no encoder is running")
        if (seconds := down.get("postgres")) is not None:
            reasons.append(f"postgres has not answered for {seconds:.0f} s; no work is taken meanwhile")
        return reasons

    def status(self, now: float, down: dict[str, float | None]) -> dict[str, Any]:
        """Everything, as the status page's JSON."""
        return {
            "uptime_seconds": round(now - self.started_at, 1),
            "draining": self.draining,
            "unready": self.unready(down),
            "notices": dict(self.notices),
            "slots": [asdict(slot) for slot in self.slots],
            "backlog": self.backlog,
            "oldest_due_seconds": self.oldest_due_seconds,
            "recent": self.recent,
            "sandbox": self.sandbox,
            "dependencies": {name: seconds is None for name, seconds in down.items()},
        }


def view(slot: Slot, now: float) -> SlotView:
    return SlotView(
        slot=slot.number,
        state=slot.state,
        pid=slot.tokens.pid if slot.process else None,
        since_seconds=round(now - slot.since, 1),
        restarts=slot.crashes,
        video_id=slot.job.video_id if slot.job else None,
        percent=slot.progress.percent if slot.progress else None,
        step=slot.progress.step if slot.progress else "assist" if isinstance(slot.job, Assisting) else "",
        speed=slot.progress.speed if slot.progress else None,
        remaining_seconds=slot.progress.remaining_seconds if slot.progress else None,
        heartbeat_age_seconds=round(now - slot.renewed_at, 1) if isinstance(slot.job, Claimed) else None,
    )
