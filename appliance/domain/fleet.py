"""Fleet arithmetic: how much work there is, and how many hosts it would take."""

from __future__ import annotations

import math
from collections.abc import Mapping

from appliance.domain.video import Status


def backlog_count(by_status: Mapping[str, int]) -> int:
    """Videos that wait or are worked on. The queue would not tell: fast-ack keeps it empty."""
    return by_status.get(Status.UPLOADED, 0) + by_status.get(Status.PROCESSING, 0)


def desired_raw(backlog: int, slots_per_host: int) -> int:
    """Hosts that would work on everything at once, before any clamp."""
    return math.ceil(backlog / max(1, slots_per_host))
