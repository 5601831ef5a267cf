from __future__ import annotations

from fractions import Fraction

from appliance.streams.rates import measure, target_duration


def rates(*segments: tuple[int, float], target: int) -> tuple[int, int]:
    measured = measure([(size, Fraction(seconds)) for size, seconds in segments], target)
    return round(measured.peak), round(measured.average)


def test_the_peak_is_that_of_the_most_expensive_segment():
    assert rates((600, 6), (1200, 6), (600, 6), target=6) == (1600, 1067)


def test_a_short_tail_alone_does_not_count():
    """One second at ten times the rate: it counts with its neighbour, 1600 bytes in 7 s."""
    assert rates((600, 6), (600, 6), (1000, 1), target=6) == (round(8 * 1600 / 7), round(8 * 2200 / 13))


def test_a_tail_of_half_the_target_counts():
    assert rates((600, 6), (3000, 3), target=6) == (8000, 3200)


def test_a_run_of_short_segments_counts_up_to_one_and_a_half_targets():
    """Two seconds each: a run has 2 to 4 of them, and the two dear ones are the peak."""
    assert rates((100, 2), (900, 2), (800, 2), (100, 2), (100, 2), target=6) == (round(8 * 1700 / 4), 1600)


def test_a_run_is_longer_than_one_and_a_half_targets_for_nothing():
    assert rates((100, 5), (900, 5), target=6) == (1440, 800)


def test_a_presentation_shorter_than_half_the_target_has_its_average_as_peak():
    assert rates((100, 1), (300, 1), target=6) == (1600, 1600)


def test_the_target_is_the_longest_segment_rounded_to_the_nearest_second():
    assert target_duration([Fraction(2), Fraction(6006, 1000)]) == 6
    assert target_duration([Fraction(13, 2)]) == 7
    assert target_duration([Fraction(1, 25)]) == 1
