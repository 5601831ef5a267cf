from __future__ import annotations

from fractions import Fraction

import pytest

from appliance.domain.content import SKIPPED_BYTES, Look, moving

MILLI = Fraction(1, 1000)
NEW, SAME = SKIPPED_BYTES + 1, SKIPPED_BYTES


def test_packets_that_say_as_before_are_no_pictures_of_their_own() -> None:
    times, sizes = [0, 100, 200, 1000, 1100, 2900], [NEW, SAME, NEW, SAME, SAME, NEW]
    assert moving(times, sizes, 0, MILLI, Fraction(10)) == (2, 0, 1)
    assert moving(times, [size + 100 for size in sizes], 1_600_000, MILLI, Fraction(10)) == (2, 0, 1)
    assert moving([], [], 0, MILLI, Fraction(10)) == ()


def test_a_source_that_is_faster_than_the_grid_counts_once_a_frame() -> None:
    """At 60 every other picture is new: on a grid of 30 each frame is."""
    times = [round(n * 1000 / 60) for n in range(120)]
    counts = moving(times, [NEW if n % 2 else SAME for n in range(120)], 0, MILLI, Fraction(30))
    assert sum(counts) == pytest.approx(60, abs=1)
    slow = moving(times, [SAME if n % 4 else NEW for n in range(120)], 0, MILLI, Fraction(30))
    assert sum(slow) == 30


def test_times_may_come_in_any_order_and_the_last_second_is_a_part() -> None:
    times = [0, 120, 40, 80, 1000, 960]
    assert moving(times, [NEW] * 6, 0, MILLI, Fraction(25)) == (5, 1)


def test_times_that_are_no_recordings_cost_no_memory() -> None:
    assert moving([0, 1 << 62], [NEW, NEW], 0, MILLI, Fraction(30)) == ()


def test_the_share_that_repeats_is_what_the_sample_or_the_packets_say() -> None:
    look = Look(moving=(30, 30, 3, 0), changes=None)
    assert look.repeated(Fraction(30)) == pytest.approx(1 - 63 / 120)
    assert look.repeated(Fraction(30), 0, 2) == 0
    assert look.repeated(Fraction(30), 2, 4) == pytest.approx(0.95)
    assert Look(moving=(30,), changes=12.0).repeated(Fraction(30)) == pytest.approx(0.6)
