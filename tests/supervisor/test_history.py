from __future__ import annotations

from itertools import pairwise

from appliance.supervisor.history import DAY_SECONDS, SAMPLES, History, Sample


def filled(seconds: float) -> History:
    history = History(15.0)
    for tick in range(int(seconds / 15) + 1):
        history.add(Sample(15.0 * tick, tick, 0, 0))
    return history


def test_an_hour_is_kept_tick_by_tick():
    samples = filled(3000).samples
    assert [sample.at for sample in samples] == [15.0 * tick for tick in range(201)]


def test_it_is_bounded_and_reaches_back_to_the_start_until_a_day_has_gone_by():
    for hours in (1, 3, 9, 23):
        samples = filled(3600 * hours).samples
        assert SAMPLES / 2 <= len(samples) <= SAMPLES
        assert samples[0].at < 600
        assert samples[-1].at > 3600 * hours - 600


def test_after_days_it_holds_the_last_one_without_holes():
    samples = filled(5 * DAY_SECONDS).samples
    assert len(samples) == SAMPLES
    assert samples[-1].at - samples[0].at >= DAY_SECONDS
    assert len({after.at - before.at for before, after in pairwise(samples)}) == 1


def test_what_comes_too_soon_is_left_out():
    history = History(15.0)
    for at in (0.0, 2.0, 14.9, 16.0, 29.0):
        history.add(Sample(at, 0, 0, 0))
    assert [sample.at for sample in history.samples] == [0.0, 14.9, 29.0]
