"""A day of an academy, from a seed: when each lecture is uploaded, how long it is, how fast a core encodes it.

The day begins at four in the morning, when nobody teaches. Lectures end on the hour or half hour and are uploaded in
the minutes after, so that they come in waves; most of them in the evening.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

HOUR = 3600.0
DAY_SECONDS = 24 * HOUR
#: (hour after four o'clock, width in hours, share of the day's lectures): forenoon, afternoon, evening.
BUMPS = ((6.0, 2.0, 0.15), (11.0, 1.5, 0.20), (16.0, 1.5, 0.60))
#: What comes at any hour.
EVENLY = 0.05
LECTURES_END_EVERY = 1800.0
#: From a lecture's end to its upload: exponential with this mean.
UPLOAD_SECONDS = 480.0
#: Lognormal lengths; a few short clips and whole mornings.
MEDIAN_SECONDS, SPREAD, SHORTEST, LONGEST = 3000.0, 0.5, 120.0, 4 * HOUR
#: Seconds of recording a core encodes in a second: `bench latency` saw 3.2 for a lecture at 720p; a camera is slower.
SPEED_LEAST, SPEED_MOST = 1.2, 3.2
#: A person waits for these; they are claimed first.
URGENT_SHARE = 0.02
#: Attempts that end with an error that passes (a store that did not answer).
FLAKY_SHARE = 0.005


@dataclass(frozen=True)
class Lecture:
    """`flaky`: its first attempt ends in a transient error."""

    arrival: float
    media_seconds: float
    speed: float
    priority: int
    flaky: bool


def lectures(number: int, seed: int) -> list[Lecture]:
    """In the order of their arrival, all within the day."""
    chance = random.Random(seed)
    found = [_lecture(chance) for _ in range(number)]
    return sorted(found, key=lambda lecture: lecture.arrival)


def _lecture(chance: random.Random) -> Lecture:
    length = min(max(MEDIAN_SECONDS * math.exp(chance.gauss(0, SPREAD)), SHORTEST), LONGEST)
    return Lecture(
        _arrival(chance),
        length,
        chance.uniform(SPEED_LEAST, SPEED_MOST),
        int(chance.random() < URGENT_SHARE),
        chance.random() < FLAKY_SHARE,
    )


def _arrival(chance: random.Random) -> float:
    draw = chance.random() - EVENLY
    if draw < 0:
        return chance.random() * DAY_SECONDS
    for middle, width, share in BUMPS:
        if draw < share:
            ended = chance.gauss(middle, width) * HOUR
            at = ended // LECTURES_END_EVERY * LECTURES_END_EVERY + chance.expovariate(1 / UPLOAD_SECONDS)
            return at % (DAY_SECONDS - 4 * HOUR)
        draw -= share
    raise AssertionError("shares add up to one")
