"""What EC2 says of a host: that it takes it away, or may, and what the host does then."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: EC2 gives a spot instance two minutes. What is held may be worked on for this long; the rest is for noticing (the
#: question comes every few seconds), and for the encoders that must be told twice, or killed.
SPOT_SECONDS = 90.0
#: What `autoscaling/target-lifecycle-state` says once the group has decided, also of a host in its warm pool.
TERMINATING = frozenset({"Terminated", "Warmed:Terminated"})


class Kind(StrEnum):
    #: It is taken away in two minutes, whatever is done.
    SPOT = "spot"
    #: Its Auto Scaling group lets it go, and a lifecycle hook may hold that up.
    TERMINATION = "termination"
    #: It is more likely than others to be taken away; it may never happen.
    REBALANCE = "rebalance"


@dataclass(frozen=True)
class Seen:
    """What the metadata service answers; empty: it says nothing of the kind. Times are in EC2's words, never compared:
    this host's clock may be wrong.
    """

    spot_action: str = ""
    spot_time: str = ""
    rebalance_time: str = ""
    target_state: str = ""

    @property
    def terminating(self) -> bool:
        """Whether the group waits for this host's word (a lifecycle hook) before it is gone."""
        return self.target_state in TERMINATING


@dataclass(frozen=True)
class Notice:
    """`sentence` is for people. `drains`: no new work, what is held is handed over. `within_seconds`: at most; None:
    within `pool.drain_seconds`.
    """

    kind: Kind
    sentence: str
    drains: bool
    within_seconds: float | None = None


def notice(seen: Seen, *, drain_on_rebalance: bool) -> Notice | None:
    """The most urgent of what was seen; None: the host stays, as far as EC2 says."""
    if seen.spot_action:
        when = f" ({seen.spot_action} at {seen.spot_time})" if seen.spot_time else f" ({seen.spot_action})"
        words = f"EC2 takes this spot instance away{when}: its work is handed over."
        return Notice(Kind.SPOT, words, drains=True, within_seconds=SPOT_SECONDS)
    if seen.terminating:
        words = "The Auto Scaling group lets this host go: its work is handed over."
        return Notice(Kind.TERMINATION, words, drains=True)
    if seen.rebalance_time:
        what = "its work is handed over" if drain_on_rebalance else "it works on"
        words = f"EC2 says since {seen.rebalance_time} that this spot instance may soon be taken away: {what}."
        return Notice(Kind.REBALANCE, words, drains=drain_on_rebalance)
    return None
