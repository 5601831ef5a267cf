"""Fleet arithmetic: how much work there is, how many hosts it would take, and when their number changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from appliance.domain.video import Status


def backlog_count(by_status: Mapping[str, int]) -> int:
    """Videos that wait or are worked on. The queue would not tell: fast-ack keeps it empty."""
    return by_status.get(Status.UPLOADED, 0) + by_status.get(Status.PROCESSING, 0)


def desired_raw(backlog: int, slots_per_host: int) -> int:
    """Hosts that would work on everything at once, before any clamp."""
    return math.ceil(backlog / max(1, slots_per_host))


#: What a group is scaled on, and whether it arrives at all.
BACKLOG = "BacklogCount"
#: What the queue says; all others come from the database.
OF_THE_QUEUE = ("video_visible", "video_inflight")
METRICS = (
    *(BACKLOG, *OF_THE_QUEUE, "video_desired_raw"),
    *("video_busy_slots", "video_failures", "video_oldest_seconds"),
)


def published(
    by_status: Mapping[str, int],
    *,
    assisting: int,
    oldest_due_seconds: float | None,
    failures: int,
    visible: int,
    inflight: int,
    slots_per_host: int,
) -> dict[str, float]:
    """METRICS: what a fleet is scaled and watched by. `assisting`: encoders that help; `failures`: since the last time;
    `visible` and `inflight`: messages of the queue.
    """
    backlog, busy = backlog_count(by_status), by_status.get(Status.PROCESSING, 0) + assisting
    wanted, oldest = desired_raw(backlog, slots_per_host), oldest_due_seconds or 0.0
    return dict(zip(METRICS, (backlog, visible, inflight, wanted, busy, failures, oldest), strict=True))


@dataclass(frozen=True)
class Group:
    """An Auto Scaling group: how many hosts it wants, and between which numbers.

    `protected`: hosts that it may not choose for a scale-in; None: nobody asked.
    """

    minimum: int
    maximum: int
    desired: int
    protected: int | None = None


class Mark(StrEnum):
    """What happens to the note of since when fewer hosts would do."""

    KEEP = "keep"
    #: Written, or written anew: it is zero seconds old from now on.
    SET = "set"
    CLEAR = "clear"


@dataclass(frozen=True)
class Decision:
    """`desired` None: the group stays as it is. `reason` is for the log, and names the figures."""

    desired: int | None
    mark: Mark
    reason: str


def decide(
    backlog: int, group: Group, *, slots_per_host: int, spare_seconds: float | None, stable_zero_seconds: float
) -> Decision:
    """How many hosts there should be. `spare_seconds`: how long fewer have been noted as enough, None: they are not.

    Up at once and within the group's bounds. Down only after fewer were enough for `stable_zero_seconds` on end, and
    then to what the work needs, but for one host: that one goes after a stable zero of its own. So between two lectures
    of an evening the fleet stays, and a busy one, whose backlog is never zero, shrinks nevertheless. A smaller number
    ends no encode, because the group finds only hosts that `protection` let go of; where there is work and it holds
    nobody, something is wrong with that, and all stay.
    """
    wanted = min(max(desired_raw(backlog, slots_per_host), group.minimum), group.maximum)
    work = f"{backlog} videos for {slots_per_host} slots a host want {wanted} hosts, {group.desired} are asked for"
    if wanted >= group.desired:
        mark = Mark.KEEP if spare_seconds is None else Mark.CLEAR
        return Decision(wanted if wanted > group.desired else None, mark, work)
    if spare_seconds is None:
        return Decision(None, Mark.SET, f"{work}: fewer would do from now on")
    spare = f"{work}: fewer have been enough for {spare_seconds:.0f} s of {stable_zero_seconds:.0f} s"
    if backlog and group.protected == 0:
        return Decision(None, Mark.KEEP, f"{spare}, but no host is protected from scale-in: none is let go")
    if spare_seconds < stable_zero_seconds:
        return Decision(None, Mark.KEEP, spare)
    return Decision(max(wanted, min(1, group.desired - 1)), Mark.SET, spare)


#: A host without work for this long may be let go: one that is between two videos of an evening is not.
IDLE_SECONDS = 30.0


def protection(busy: int, idle_seconds: float, protected: bool | None) -> bool | None:
    """What to make of the host's scale-in protection: on, off, or (None) nothing, because it is as it should be.

    `busy`: slots at work; `idle_seconds`: since the last one rested; `protected`: as the group was last told, None when
    it was not. A host that works is never chosen, one that has rested for IDLE_SECONDS may be.
    """
    if busy:
        return None if protected else True
    return False if idle_seconds >= IDLE_SECONDS and protected is not False else None


#: While a hook holds up the end of a host, its time-out is started anew this often; the shortest one is 30 s.
BEAT_SECONDS = 20.0


class Step(StrEnum):
    """What the group is told of a host that it wants to end."""

    NOTHING = "nothing"
    #: It still holds something: wait.
    BEAT = "beat"
    #: It holds nothing any more: go on.
    COMPLETE = "complete"


def lifecycle(*, held: int, beat_seconds: float | None, completed: bool) -> Step:
    """For a host whose end a lifecycle hook holds up. `held`: encoders that have not left; `beat_seconds`: since the
    group was last told to wait, None when it was not.
    """
    if completed:
        return Step.NOTHING
    if not held:
        return Step.COMPLETE
    return Step.BEAT if beat_seconds is None or beat_seconds >= BEAT_SECONDS else Step.NOTHING
