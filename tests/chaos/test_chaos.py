"""A short chaos run with a fixed seed: real hosts, real servers, faults, and a clean verdict. The long one is
`./install.sh bench chaos`.
"""

from __future__ import annotations

import pytest

from tests.chaos.faults import ALWAYS, KILLS, PAUSES, Kind, schedule
from tests.chaos.run import Wanted, run


def test_nothing_is_lost_and_nothing_doubled_in_a_short_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("chaos")
    verdict = run(Wanted(seed=7, minutes=0.3, real=1, hosts=2, encoders=2), lambda text: None, place)
    assert verdict.violations == []
    assert verdict.figures["stale writes rejected"] > 0
    assert verdict.figures["kills"] > 0
    assert verdict.figures["streams proven after the run"] == verdict.figures["outcomes"]["READY"]


def test_a_schedule_is_its_seeds() -> None:
    assert schedule(1, 2) == schedule(1, 2) != schedule(2, 2)
    assert {fault.kind for fault in schedule(3, 0.01)} >= set(ALWAYS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_long_run_has_its_five_hundred_kills_a_hundred_pauses_and_twenty_restarts(seed: int) -> None:
    faults = schedule(seed, 18)
    number = {kind: sum(fault.kind is kind for fault in faults) for kind in Kind}
    assert sum(number[kind] for kind in KILLS) >= 600
    assert sum(number[kind] for kind in PAUSES) >= 150
    assert number[Kind.RESTART_REDIS] >= 25
    assert number[Kind.RESTART_POSTGRES_FAST] + number[Kind.RESTART_POSTGRES_NOW] >= 25
