"""What a track costs: bits a second as players are told, measured from the segments' sizes and durations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Rates:
    """Bits a second: the peak over any run of segments that counts (`measure`), and the average."""

    peak: Fraction
    average: Fraction

    def __add__(self, other: Rates) -> Rates:
        return Rates(self.peak + other.peak, self.average + other.average)


NOTHING = Rates(Fraction(0), Fraction(0))
#: Segments of a run that are looked at: more of them than this within a target duration or two is nonsense.
LONGEST_RUN = 200


def target_duration(durations: Sequence[Fraction]) -> int:
    """The longest of these in whole seconds, rounded to the nearest (RFC 8216 §4.3.3.1)."""
    return max(1, *(math.floor(duration + Fraction(1, 2)) for duration in durations))


def measure(segments: Sequence[tuple[int, Fraction]], target: int) -> Rates:
    """The rates of segments of (bytes, seconds), as RFC 8216 §4.1 and §4.3.4.2 define them.

    The peak is the highest rate of any contiguous run that lasts 0.5 to 1.5 × the target duration, so a short tail
    alone does not count; where no run lasts that long, the average is the peak. Without any time both are 0.
    """
    seconds = sum((duration for _, duration in segments), Fraction(0))
    if not seconds:
        return NOTHING
    average = 8 * sum(size for size, _ in segments) / seconds
    return Rates(max(_run_rates(segments, target), default=average), average)


def _run_rates(segments: Sequence[tuple[int, Fraction]], target: int) -> Iterator[Fraction]:
    shortest, longest = Fraction(target, 2), Fraction(3 * target, 2)
    for start in range(len(segments)):
        size, seconds = 0, Fraction(0)
        for place in range(start, min(start + LONGEST_RUN, len(segments))):
            size, seconds = size + segments[place][0], seconds + segments[place][1]
            if seconds > longest:
                break
            if seconds and seconds >= shortest:
                yield 8 * size / seconds
