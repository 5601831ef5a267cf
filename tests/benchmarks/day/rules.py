"""Who says how many hosts there shall be, once a period: direct mode, AWS's target tracking, the system before."""

from __future__ import annotations

import json
import math
from collections import deque
from pathlib import Path

from appliance.domain.fleet import Mark, decide, desired_raw
from tests.benchmarks.day.world import World

POLICIES = Path(__file__).parents[3] / "config/autoscaling"
#: The alarms that target tracking makes for itself, in datapoints of a minute; it scales in from this share of its
#: target. AWS's choice, as seen in its console, and promised nowhere.
HIGH_DATAPOINTS, LOW_DATAPOINTS, LOW_SHARE = 3, 15, 0.9


class Direct:
    """`domain.fleet.decide` on what the hosts' tick knows, with the note that Systems Manager keeps."""

    def __init__(self, slots: int, stable_zero_seconds: float) -> None:
        self._slots, self._stable_zero_seconds = slots, stable_zero_seconds
        self._noted: float | None = None

    def __call__(self, world: World) -> int | None:
        found = decide(
            world.backlog,
            world.group,
            slots_per_host=self._slots,
            spare_seconds=None if self._noted is None else world.now - self._noted,
            stable_zero_seconds=self._stable_zero_seconds,
        )
        if found.mark is not Mark.KEEP:
            self._noted = world.now if found.mark is Mark.SET else None
        return found.desired


class Old:
    """The system before: hosts for the messages that are visible, down to the minimum once none has been for long.

    Its queue knows nothing of what is being encoded, and neither does it.
    """

    def __init__(self, slots: int, stable_zero_seconds: float) -> None:
        self._slots, self._stable_zero_seconds = slots, stable_zero_seconds
        self._seen = 0.0

    def __call__(self, world: World) -> int | None:
        visible = len(world.due)
        if visible:
            self._seen = world.now
            return max(desired_raw(visible, self._slots), world.group.desired)
        return world.group.minimum if world.now - self._seen >= self._stable_zero_seconds else None


class Tracking:
    """The policies of config/autoscaling as AWS documents them: target tracking, and the step from no host to one.

    The metric of the last period is known in this one. Out at once to what the target asks for, what boots counts as
    there; in only when every datapoint of a quarter of an hour was low and nothing is warming up.
    """

    def __init__(self, target: float) -> None:
        policy = json.loads((POLICIES / "target-tracking.json").read_text())
        self._target, self._warmup_seconds = target, float(policy["EstimatedInstanceWarmup"])
        self._seen: deque[float] = deque(maxlen=LOW_DATAPOINTS)
        self._known: tuple[float, int] = (0.0, 0)

    def __call__(self, world: World) -> int | None:
        backlog, hosts = self._known
        serving = world.in_service()
        self._known = (world.backlog, len(serving))
        self._seen.append(backlog / max(1, hosts))
        if hosts < 1 <= backlog:
            return max(1, world.group.desired)
        wanted, lately = math.ceil(backlog / self._target), list(self._seen)
        if min(lately[-HIGH_DATAPOINTS:]) > self._target:
            return max(wanted, world.group.desired)
        if len(lately) == LOW_DATAPOINTS and max(lately) < LOW_SHARE * self._target:
            warming = any(world.now - host.launched < self._warmup_seconds for host in serving)
            return None if warming else min(wanted, world.group.desired)
        return None
