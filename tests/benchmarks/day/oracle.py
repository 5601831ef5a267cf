"""The fleet of somebody who knows the day beforehand, and what it costs when nobody shall wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tests.benchmarks.day.arrivals import Lecture
from tests.benchmarks.day.state import PLAN_SECONDS, Setting, Video


def needed(lectures: Sequence[Lecture]) -> list[tuple[float, int]]:
    """(time, encodes that run from then on) when each begins as it arrives, on one slot and unhelped."""
    steps = []
    for lecture in lectures:
        video = Video(0, lecture)
        video.begun = lecture.arrival + PLAN_SECONDS
        steps += [(lecture.arrival, 1), (video.ends(), -1)]
    found, running = [], 0
    for when, step in sorted(steps):
        running += step
        found.append((when, running))
    return found


def host_seconds(lectures: Sequence[Lecture], setting: Setting) -> float:
    """The least with which no video waits: packed as if encodes could move, each host booted just in time.

    Host k is needed while more than k × slots encodes run; it stays over a pause that is shorter than a boot.
    """
    up: dict[int, float] = {}
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    before = 0
    for when, running in needed(lectures):
        if running > before and before % setting.slots == 0:
            level = before // setting.slots
            pause = spans[level] and when - spans[level][-1][1] <= setting.boot_seconds
            up[level] = spans[level].pop()[0] if pause else when - setting.boot_seconds
        elif running < before and running % setting.slots == 0:
            level = running // setting.slots
            spans[level].append((up.pop(level), when))
        before = running
    return sum(until - since for level in spans.values() for since, until in level)
