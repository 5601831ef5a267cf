from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.gaps import Gap, closed, holes, opened, shared

MS = Fraction(1, 1000)
MINUTE = Fraction(60)


def every(step: int, *spans: tuple[int, int]) -> list[int]:
    """Packet times in milliseconds."""
    return [time for start, end in spans for time in range(start, end, step)]


def gaps(*streams: list[int]) -> tuple[Gap, ...]:
    return shared([holes(times, MS, MINUTE) for times in streams], MINUTE, 1000)


def test_a_hole_that_both_streams_have_is_closed() -> None:
    video = every(40, (0, 10_000), (100_000_000, 100_010_000))
    audio = every(20, (0, 12_000), (100_000_500, 100_010_000))
    assert gaps(video) == (Gap(50_005_000, 99_990_000),)
    # from the end of the sound to the next picture
    assert gaps(video, audio) == (Gap(50_006_000, 99_988_000),)


def test_a_hole_of_one_stream_is_held_or_silent() -> None:
    video, audio = every(40, (0, 10_000), (200_000, 210_000)), every(20, (0, 210_000))
    assert gaps(video, audio) == ()
    assert gaps(every(40, (0, 10_000), (69_000, 70_000))) == ()


def test_what_lies_before_and_after_a_stream_is_a_hole_of_it() -> None:
    assert gaps(every(40, (0, 10_000)), every(20, (200_000, 210_000))) == (Gap(105_000, 190_000),)
    assert gaps([0]) == ()


@given(st.lists(st.integers(100, 1000), min_size=1, max_size=5), st.integers(0, 100_000))
def test_closing_and_opening_are_each_others_reverse(lengths: list[int], time: int) -> None:
    found, at = [], 0
    for length in lengths:
        at += 5000 + length
        found.append(Gap(at - length // 2, length))
    source = opened(found, time)
    assert all(abs(source - gap.at) >= gap.length // 2 for gap in found)  # never inside of a hole
    assert closed(found, source) == time
