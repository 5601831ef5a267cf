"""The simulated appliance: rows, hosts with slots, an Auto Scaling group, spot losses, a Redis that goes away.

Real: `domain.fleet` (`protection`; `decide` in rules.py), `domain.retry`, `supervisor.reconcile.missing`, the settings'
defaults, and the order in which rows and chunks are claimed (a test holds the rows' against claim_next on PostgreSQL).
Modelled, each step an event:

- a host: `boot_seconds` from its launch to its encoders, then slots that are busy or idle; the one that gets a job is
  drawn by lot, as SQS does among its long polls;
- a video: read and planned (`PLAN_SECONDS`), chunk after chunk at its own speed, published (`PUBLISH_SECONDS`). When
  nothing is due an idle slot takes a chunk from the owner of the longest-held video, and fetches the source for it;
- leaving (scale-in, a spot notice): what ends within `drain_seconds` ends, the rest is released at its chunk's end and
  goes on elsewhere. Lost without a word: the chunks in flight are lost, and a tick finds the row by heartbeat or lease;
- the group: replaces what was lost, launches at once, terminates unprotected hosts by lot; looked at once a minute;
- EC2 takes spot instances one by one, and once a fifth of the fleet at a time, in the evening, while Redis is away.

Left out: rings that are lost (idle encoders find the row within a poll), the second between a claim and its protection,
and that EC2 may have no capacity.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from appliance.adapters.postgres.sweeps import Held
from appliance.domain import retry
from appliance.domain.errors import Transient
from appliance.domain.fleet import Group, protection
from appliance.supervisor.reconcile import Rules, missing
from tests.benchmarks.day.arrivals import DAY_SECONDS, HOUR, Lecture
from tests.benchmarks.day.state import (
    FETCH_SECONDS,
    LEASE,
    PERIOD_SECONDS,
    PLAN_SECONDS,
    POOL,
    RECONCILE,
    THRASH_SECONDS,
    Host,
    Outcome,
    Setting,
    Video,
)

#: (world) → how many hosts the group shall want, None: as it is. Called once a period.
Rule = Callable[["World"], int | None]


class World:
    """One day under one rule."""

    def __init__(self, lectures: Sequence[Lecture], setting: Setting, rule: Rule, seed: int) -> None:
        self.setting, self.rule, self.chance = setting, rule, random.Random(seed)
        self.group = Group(setting.minimum, setting.maximum, setting.minimum)
        self.now, self.outcome = 0.0, Outcome()
        self.processing = 0
        self.due: list[tuple[tuple[int, float, int], Video]] = []
        self.helpable: list[tuple[int, float, int, Video]] = []
        self.orphans: list[Video] = []
        self.hosts: set[Host] = set()
        self._open: list[Host] = []
        self._released: list[float] = []
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._count = 0
        for number, lecture in enumerate(lectures):
            self.at(lecture.arrival, self._arrives, Video(number, lecture))
        self.at(0.0, self._period, None)
        self.at(0.0, self._tick, None)
        self.at(setting.storm_at, self._storm, None)
        for _ in range(setting.minimum):
            self._launch()

    # ---- the clock ------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[..., None], whom: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what, whom))

    def run(self) -> Outcome:
        """Until the day's end."""
        events = self._events
        while events[0][0] <= DAY_SECONDS:
            self.now, _, what, whom = heapq.heappop(events)
            what(whom)
        self.now = DAY_SECONDS
        self.outcome.host_seconds += sum(self.now - host.launched for host in self.hosts)
        self.outcome.unfinished = len(self.due) + self.processing
        return self.outcome

    # ---- rows -----------------------------------------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        """UPLOADED and PROCESSING."""
        return len(self.due) + self.processing

    def _arrives(self, video: Video) -> None:
        heapq.heappush(self.due, (video.order(), video))
        self._work()

    def _work(self) -> None:
        """Every idle slot that there is something for: a video before a chunk."""
        while self._open and (self.due or self._chunk() is not None):
            self._take(self._open[self.chance.randrange(len(self._open))])

    def _take(self, host: Host) -> None:
        self._occupy(host, 1)
        if self.due:
            self._claim(host, heapq.heappop(self.due)[1])
        else:
            video = self._chunk()
            assert video is not None
            self._help(host, video)

    def _claim(self, host: Host, video: Video) -> None:
        self.outcome.claims.append(self.now)
        self.outcome.waits.append(self.now - video.due)
        if video.lost_at is not None:
            self.outcome.recoveries.append(self.now - video.lost_at)
            video.lost_at = None
        video.host, video.leased_at, video.begun = host, self.now, self.now + PLAN_SECONDS
        video.planned = False
        self.processing += 1
        host.owned.add(video)
        self._ends(video)
        if self.setting.help and video.chunks > 1:
            self.at(video.begun, self._planned, (video, video.leased_at))

    def _ends(self, video: Video) -> None:
        video.version += 1
        self.at(video.ends(), self._ended, (video, video.version))

    def _ended(self, which: tuple[Video, int]) -> None:
        video, version = which
        if version != video.version:
            return
        host = self._let_go(video)
        if video.lecture.flaky and video.failures == 0:
            self._fails(video)
        self._free(host)

    def _fails(self, video: Video) -> None:
        """Its finished chunks stay; the rule says when it is tried again."""
        jitter = self.chance.uniform(-1, 1)
        error = Transient("S3 did not answer", hint="")
        found = retry.decide(error, failure_count=video.failures, max_attempts=LEASE.max_attempts, jitter=jitter)
        assert found.retry_in_seconds is not None
        video.failures += 1
        video.chunks = 0
        self._returns(video, self.now + found.retry_in_seconds)

    def _returns(self, video: Video, when: float) -> None:
        """UPLOADED again, due `when`."""
        video.due, video.assisted = when, 0
        self.at(when, self._arrives, video)

    def _let_go(self, video: Video) -> Host:
        host = video.host
        assert host is not None
        video.host, video.planned = None, False
        video.version += 1
        self.processing -= 1
        host.owned.discard(video)
        return host

    # ---- chunks ---------------------------------------------------------------------------------------------------

    def _planned(self, which: tuple[Video, float]) -> None:
        video, leased_at = which
        if video.host is not None and video.leased_at == leased_at:
            video.planned = True
            heapq.heappush(self.helpable, (-video.lecture.priority, leased_at, video.number, video))
            self._work()

    def _chunk(self) -> Video | None:
        """The video of the next chunk to help with: the order of claim_assist."""
        while self.helpable:
            _, leased_at, _, video = self.helpable[0]
            if video.planned and video.leased_at == leased_at and video.waiting(self.now) > 0:
                return video
            heapq.heappop(self.helpable)
        return None

    def _help(self, host: Host, video: Video) -> None:
        video.assisted += 1
        which = (video, video.leased_at)
        host.helped.append(which)
        done = self.now + video.seconds + FETCH_SECONDS
        video.helped_until = max(video.helped_until, done)
        self._ends(video)
        self.at(done, self._helped, (host, which))

    def _helped(self, what: tuple[Host, tuple[Video, float]]) -> None:
        host, which = what
        if not host.gone:
            host.helped.remove(which)
            self._free(host)

    def _lose_help(self, video: Video, leased_at: float) -> None:
        """Its helper died: the owner takes the chunk once its lease has ended."""
        if video.host is not None and video.leased_at == leased_at:
            again = self.now + LEASE.chunk_lease_seconds + video.seconds
            video.helped_until = max(video.helped_until, again)
            self._ends(video)

    # ---- slots ----------------------------------------------------------------------------------------------------

    def _occupy(self, host: Host, slots: int) -> None:
        """Busy slots more, or fewer; `_open` holds the hosts that have an idle one, each at its `place`."""
        host.busy += slots
        wanted = host.ready and not host.leaving and host.busy < self.setting.slots
        if wanted and host.place < 0:
            host.place = len(self._open)
            self._open.append(host)
        elif not wanted and host.place >= 0:
            last = self._open.pop()
            if last is not host:
                self._open[host.place] = last
                last.place = host.place
            host.place = -1

    def _free(self, host: Host) -> None:
        self._occupy(host, -1)
        host.idle_since = self.now
        if host.leaving:
            self._maybe_gone(host)
        else:
            self._work()

    # ---- hosts ----------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        host = Host(self.outcome.launches, self.now)
        self.outcome.launches += 1
        self.hosts.add(host)
        while self._released and self._released[0] < self.now - THRASH_SECONDS:
            self._released.pop(0)
        if self._released:
            self._released.pop(0)
            self.outcome.thrash += 1
        self.at(self.now + self.setting.boot_seconds, self._ready, host)
        if self.setting.spot_share_an_hour:
            life = self.chance.expovariate(self.setting.spot_share_an_hour / HOUR)
            self.at(self.now + life, self._spot, host)

    def _ready(self, host: Host) -> None:
        if host.gone or host.leaving:
            return
        host.ready, host.idle_since = True, self.now
        self._occupy(host, 0)
        self._work()

    def _storm(self, _: None) -> None:
        staying = sorted((host for host in self.hosts if host.ready), key=lambda host: host.number)
        for host in self.chance.sample(staying, int(len(staying) * self.setting.storm_share)):
            self._spot(host)

    def _spot(self, host: Host) -> None:
        if host.gone:
            return
        self.outcome.lost_hosts += 1
        if self.chance.random() < self.setting.unannounced:
            self._dies(host)
        elif not host.leaving:
            self._leave(host)
        self._group()

    def _leave(self, host: Host) -> None:
        """Told to go: no new work, what ends soon ends, the rest is released at its chunk's end."""
        host.leaving = True
        self._occupy(host, 0)
        until = self.now + POOL.drain_seconds
        for video in sorted(host.owned, key=Video.order):
            if video.ends() > until:
                begun, seconds = video.begun, video.seconds
                end = self.now if self.now < begun else begun + math.ceil((self.now - begun) / seconds) * seconds
                self.at(min(end, until), self._release, (video, video.leased_at))
        self._maybe_gone(host)

    def _release(self, which: tuple[Video, float]) -> None:
        video, leased_at = which
        if video.host is None or video.leased_at != leased_at:
            return
        self.outcome.handed_over += 1
        self._keep(video, video.started(self.now - 0.001) if self.now > video.begun else 0)
        host = self._let_go(video)
        self._returns(video, self.now)
        self._free(host)

    def _keep(self, video: Video, mine: int) -> None:
        """What is left after so many chunks of its owner; the proof and publishing are always left."""
        video.chunks = max(0, video.chunks - video.assisted - mine)

    def _maybe_gone(self, host: Host) -> None:
        if host.busy == 0 and not host.gone:
            self._gone(host)

    def _gone(self, host: Host) -> None:
        host.gone = True
        self.hosts.discard(host)
        self.outcome.host_seconds += self.now - host.launched

    def _dies(self, host: Host) -> None:
        """Without a word. Its rows stay PROCESSING until a tick finds them."""
        host.leaving = True
        self._occupy(host, 0)
        for which in host.helped:
            self._lose_help(*which)
        for video in sorted(host.owned, key=Video.order):
            self._keep(video, max(0, video.started(self.now) - 1))
            self._let_go(video)
            self.processing += 1
            video.lost_at = self.now
            self.orphans.append(video)
        self._gone(host)

    def _may_go(self, host: Host) -> bool:
        """A host that serves, and is not protected (or nobody cares)."""
        idle = self.now - host.idle_since
        return host.ready and not (self.setting.protect and protection(host.busy, idle, True) is not False)

    # ---- the group and the ticks ----------------------------------------------------------------------------------

    def in_service(self) -> list[Host]:
        """As the group counts: whatever EC2 runs, also before its encoders are up."""
        return [host for host in self.hosts if not host.leaving]

    def _period(self, _: None) -> None:
        wanted = self.rule(self)
        if wanted is not None:
            bounded = min(max(wanted, self.setting.minimum), self.setting.maximum)
            self.group = Group(self.setting.minimum, self.setting.maximum, bounded)
        self._group()
        self.outcome.hosts.append(len(self.hosts))
        self.at(self.now + PERIOD_SECONDS, self._period, None)

    def _group(self) -> None:
        """What the Auto Scaling group does about the difference between what it has and what it wants."""
        staying = self.in_service()
        for _ in range(self.group.desired - len(staying)):
            self._launch()
        excess = len(staying) - self.group.desired
        if excess > 0:
            able = sorted((host for host in staying if self._may_go(host)), key=lambda host: host.number)
            for host in self.chance.sample(able, min(excess, len(able))):
                self._released.append(self.now)
                self._scale_in(host)

    def _scale_in(self, host: Host) -> None:
        self.outcome.killed += len(host.owned)
        if self.setting.protect:
            self._leave(host)
        else:
            self._dies(host)

    def _tick(self, _: None) -> None:
        """Reclaim: by lease, or by heartbeat where Redis answers and has for long enough."""
        away, back = self.setting.redis_away
        amnesty = back <= self.now < back + 2 * LEASE.heartbeat_ttl_seconds
        rules = Rules(LEASE.heartbeat_ttl_seconds, RECONCILE.first_ring_seconds, RECONCILE.batch)
        left = []
        for video in self.orphans:
            assert video.lost_at is not None
            silent = self.now - video.lost_at + LEASE.renew_seconds / 2
            beats = "{}" if silent < LEASE.heartbeat_ttl_seconds else None
            held = Held(video.number, 1, "", None, "", None, silent, silent > LEASE.lease_seconds)
            by_heartbeat = not away <= self.now < back and missing(held, beats, amnesty=amnesty, rules=rules)
            if held.lease_expired or by_heartbeat:
                self.processing -= 1
                self._returns(video, self.now)
            else:
                left.append(video)
        self.orphans = left
        self.at(self.now + RECONCILE.tick_seconds, self._tick, None)
