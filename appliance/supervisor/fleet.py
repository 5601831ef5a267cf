"""Direct mode: the winner of a tick tells the Auto Scaling group how many hosts the backlog needs."""

from __future__ import annotations

import structlog

from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.ssm import Parameter
from appliance.domain.fleet import Mark, decide


class Director:
    """`note` tells every host since when fewer would do. Raises Unavailable, and then nothing was scaled."""

    def __init__(self, group: ScalingGroup, note: Parameter, *, stable_zero_seconds: float) -> None:
        self._group, self._note = group, note
        self._stable_zero_seconds = stable_zero_seconds
        self._log = structlog.get_logger()
        self._said = ""

    def steer(self, backlog: int, slots_per_host: int) -> None:
        """One decision. The note first: where the group then does not answer, the hosts only stay for longer."""
        group = self._group.look()
        decision = decide(
            backlog,
            group,
            slots_per_host=slots_per_host,
            spare_seconds=self._note.age_seconds(),
            stable_zero_seconds=self._stable_zero_seconds,
        )
        if decision.mark is Mark.SET:
            self._note.put("fewer hosts would do")
        elif decision.mark is Mark.CLEAR:
            self._note.delete()
        if decision.desired is not None:
            self._group.want(decision.desired)
        kind = f"{decision.desired} {decision.mark}"
        if decision.desired is not None or kind != self._said:
            self._log.info("FLEET_DECISION", group=self._group.name, desired=decision.desired, reason=decision.reason)
        self._said = kind
