"""What there is in the simulated fleet: the setting, a video's row and its encode, a host, and what a day came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from appliance import config
from appliance.domain.plan import Packaging
from tests.benchmarks.day.arrivals import HOUR, Lecture

LEASE, RECONCILE, POOL, CUT = config.Lease(), config.Reconcile(), config.Pool(), Packaging()
PLAN_SECONDS, PUBLISH_SECONDS = 10.0, 5.0
#: A host fetches a source once for all its slots; a chunk elsewhere begins later by this.
FETCH_SECONDS = 5.0
PERIOD_SECONDS = 60.0
#: Hosts launched within this time of a scale-in were let go too early.
THRASH_SECONDS = 600.0


@dataclass(frozen=True)
class Setting:
    """EC2 takes `spot_share_an_hour` of the hosts, and `storm_share` of them at `storm_at`; `unannounced`: the share of
    these that is lost without the notice. Redis is away between two times. All times from the day's begin.
    """

    slots: int = 8
    minimum: int = 1
    maximum: int = 250
    boot_seconds: float = 120.0
    spot_share_an_hour: float = 0.01
    storm_share: float = 0.2
    storm_at: float = 15.75 * HOUR
    unannounced: float = 0.25
    redis_away: tuple[float, float] = (15.5 * HOUR, 16 * HOUR)
    #: False: hosts are let go as the old system did, whatever they do, without a word to them.
    protect: bool = True
    help: bool = True


class Video:
    """A row, and how far its encode is. `begun` is when its owner's first chunk begins."""

    __slots__ = ("assisted", "begun", "chunks", "due", "failures", "helped_until", "host", "lecture", "number")
    __slots__ += ("leased_at", "lost_at", "planned", "seconds", "version")

    def __init__(self, number: int, lecture: Lecture) -> None:
        self.number, self.lecture = number, lecture
        self.chunks = max(1, math.ceil(lecture.media_seconds / CUT.chunk_seconds))
        self.seconds = lecture.media_seconds / self.chunks / lecture.speed
        self.due, self.failures, self.version = lecture.arrival, 0, 0
        self.host: Host | None = None
        self.leased_at = self.begun = self.helped_until = 0.0
        self.lost_at: float | None = None
        self.assisted, self.planned = 0, False

    def order(self) -> tuple[int, float, int]:
        """That of claim_next: priority DESC, run_after, id."""
        return (-self.lecture.priority, self.due, self.number)

    def started(self, now: float) -> int:
        """Chunks that its owner has begun."""
        return min(self.chunks - self.assisted, max(0, int((now - self.begun) // self.seconds) + 1))

    def waiting(self, now: float) -> int:
        """Chunks that nobody has begun."""
        return self.chunks - self.assisted - self.started(now)

    def ends(self) -> float:
        return max(self.begun + self.seconds * (self.chunks - self.assisted), self.helped_until) + PUBLISH_SECONDS


class Host:
    """`owned`: the videos of its slots; `helped`: (video, its lease's begin) of the chunks it helps with; `busy` slots;
    `place` among the hosts with an idle slot, -1 when it has none.
    """

    __slots__ = ("busy", "gone", "helped", "idle_since", "launched", "leaving", "number", "owned", "place", "ready")

    def __init__(self, number: int, launched: float) -> None:
        self.number, self.launched = number, launched
        self.owned: set[Video] = set()
        self.helped: list[tuple[Video, float]] = []
        self.busy, self.place = 0, -1
        self.ready, self.leaving, self.gone = False, False, False
        self.idle_since = launched


@dataclass
class Outcome:
    """A day. `waits`: seconds from due to claim, of every claim, each made at the time in `claims`; `recoveries`: from
    a host's death to the next claim of its videos; `hosts`: how many EC2 runs, each minute; `killed`: encodes that ran
    on a host which was scaled in; `thrash`: hosts launched within THRASH_SECONDS of letting one go.
    """

    claims: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    host_seconds: float = 0.0
    launches: int = 0
    thrash: int = 0
    killed: int = 0
    handed_over: int = 0
    lost_hosts: int = 0
    unfinished: int = 0
    hosts: list[int] = field(default_factory=list)
