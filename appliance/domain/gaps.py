"""Holes in a recording's clock: which of them are closed, and where a source time lies on the output."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

#: So many are closed, the longest first: each is a term of every frame's arithmetic.
MOST_GAPS = 100


class Hole(NamedTuple):
    """A stretch without data, in seconds on the source's clock."""

    start: Fraction | float
    end: Fraction | float


@dataclass(frozen=True)
class Gap:
    """A hole that is closed: what comes after `at`, its middle, is moved back by `length`. Both in ticks."""

    at: int
    length: int


def holes(times: Sequence[int], time_base: Fraction, least: Fraction) -> list[Hole]:
    """Where a stream has no packet for at least `least` seconds, before its first and after its last included.

    `times` are the packets' presentation times in units of `time_base`, in any order.
    """
    ordered = sorted(times)
    steps = [later - earlier for earlier, later in pairwise(ordered[:1000])]
    usual = min(Fraction(1), statistics.median_low(steps) * time_base) if steps else Fraction(0)
    wide = least / time_base
    inside = [
        Hole(earlier * time_base + usual, later * time_base)
        for earlier, later in pairwise(ordered)
        if later - earlier >= wide
    ]
    first, last = ordered[0] * time_base, ordered[-1] * time_base + usual
    return [Hole(-math.inf, first), *inside, Hole(last, math.inf)]


def shared(streams: Iterable[list[Hole]], least: Fraction, ticks: int) -> tuple[Gap, ...]:
    """The holes that all streams have in common, inside of the recording; `ticks` a second."""
    common = [Hole(-math.inf, math.inf)]
    for stream in streams:
        both = (Hole(max(a.start, b.start), min(a.end, b.end)) for a in common for b in stream)
        common = [hole for hole in both if hole.end - hole.start >= least]
    inside = [hole for hole in common if math.isfinite(hole.start) and math.isfinite(hole.end)]
    longest = sorted(inside, key=lambda hole: hole.start - hole.end)[:MOST_GAPS]
    return tuple(
        Gap(round((hole.start + hole.end) / 2 * ticks), round((hole.end - hole.start) * ticks))
        for hole in sorted(longest)
    )


def closed(gaps: Iterable[Gap], source: int) -> int:
    """A source time without the gaps before it. All in ticks."""
    return source - sum(gap.length for gap in gaps if source >= gap.at)


def opened(gaps: Iterable[Gap], time: int) -> int:
    """The source time of a time without gaps: the other way round. All in ticks."""
    for gap in gaps:
        if time >= gap.at - gap.length // 2:
            time += gap.length
    return time
