"""What a soak calls growth."""

from __future__ import annotations

import pytest

from tests.benchmarks.soak import LEAST_CYCLES, MIB, growths


def grown(values: list[float], name: str = "supervisor_descriptors") -> bool:
    return growths([{name: value} for value in values])[0].found


STEADY = [20.0] * 4 * LEAST_CYCLES


def test_what_stays_has_not_grown() -> None:
    assert not grown(STEADY)


def test_one_more_in_every_tenth_cycle_has() -> None:
    assert grown([20.0 + cycle // 10 for cycle in range(40)])


def test_a_single_step_has_too_once_it_lasts() -> None:
    assert grown([*STEADY, *(21.0 for _ in STEADY)])


def test_the_first_cycles_and_odd_ones_do_not_count() -> None:
    odd = [20.0 if cycle % 5 else 90.0 for cycle in range(30)]
    assert not grown([3.0, 9.0, 15.0, *odd])


@pytest.mark.parametrize(("each_cycle", "expected"), [(4096, False), (MIB / 4, True)])
def test_memory_may_settle_by_a_little_and_not_by_more(each_cycle: float, *, expected: bool) -> None:
    assert grown([75 * MIB + each_cycle * cycle for cycle in range(20)], "encoder_memory") is expected
