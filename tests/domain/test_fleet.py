import itertools

import pytest

from appliance.domain.fleet import (
    BEAT_SECONDS,
    IDLE_SECONDS,
    Group,
    Mark,
    Step,
    backlog_count,
    decide,
    desired_raw,
    lifecycle,
    protection,
)


def test_the_backlog_is_what_waits_and_what_is_worked_on():
    assert backlog_count({"PENDING": 9, "UPLOADED": 3, "PROCESSING": 2, "READY": 50, "FAILED": 1}) == 5
    assert backlog_count({}) == 0


@pytest.mark.parametrize(("backlog", "slots", "hosts"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (3, 0, 3)])
def test_hosts_that_would_take_everything_at_once(backlog, slots, hosts):
    assert desired_raw(backlog, slots) == hosts


GROUP = Group(minimum=1, maximum=10, desired=3)
ZERO = 1200.0


@pytest.mark.parametrize(
    ("backlog", "group", "spare_seconds", "desired", "mark"),
    [
        # more work than hosts: up at once
        (20, GROUP, None, 5, Mark.KEEP),
        (13, GROUP, None, 4, Mark.KEEP),
        # within the group's bounds
        (4000, GROUP, None, 10, Mark.KEEP),
        (1, Group(2, 10, 1), None, 2, Mark.KEEP),
        # from nothing
        (1, Group(0, 10, 0), None, 1, Mark.KEEP),
        # just enough
        (12, GROUP, None, None, Mark.KEEP),
        # fewer would do: noted first, and nothing happens until that is stable
        (8, GROUP, None, None, Mark.SET),
        (0, GROUP, None, None, Mark.SET),
        (1, GROUP, 0.0, None, Mark.KEEP),
        (0, GROUP, ZERO - 1, None, Mark.KEEP),
        # then down to what the work needs, and the next time begins
        (8, GROUP, ZERO, 2, Mark.SET),
        (1, GROUP, ZERO + 60, 1, Mark.SET),
        (0, GROUP, ZERO, 1, Mark.SET),
        # but not while there is work and nobody is protected: then that does not work
        (8, Group(1, 10, 3, protected=0), 2 * ZERO, None, Mark.KEEP),
        (8, Group(1, 10, 3, protected=2), ZERO, 2, Mark.SET),
        (0, Group(1, 10, 3, protected=0), ZERO, 1, Mark.SET),
        # somebody asked for more by hand
        (4, Group(1, 10, 9), ZERO, 1, Mark.SET),
        # never below the minimum
        (0, Group(2, 10, 3), ZERO, 2, Mark.SET),
        (0, Group(3, 10, 3), ZERO, None, Mark.CLEAR),
        # to nothing by way of one: that one's time is a stable zero, because a single video would keep it
        (0, Group(0, 10, 3), ZERO, 1, Mark.SET),
        (0, Group(0, 10, 1), ZERO - 1, None, Mark.KEEP),
        (0, Group(0, 10, 1), ZERO, 0, Mark.SET),
        (1, Group(0, 10, 1), ZERO - 1, None, Mark.CLEAR),
        # work again: the note goes, whether or not more hosts are needed
        (9, GROUP, 600.0, None, Mark.CLEAR),
        (99, GROUP, ZERO + 1, 10, Mark.CLEAR),
    ],
)
def test_a_decision(backlog, group, spare_seconds, desired, mark):
    found = decide(backlog, group, slots_per_host=4, spare_seconds=spare_seconds, stable_zero_seconds=ZERO)
    assert (found.desired, found.mark) == (desired, mark)
    assert found.reason.startswith(f"{backlog} videos for 4 slots a host")


def test_no_host_is_let_go_that_the_work_needs_nor_any_before_its_time_whatever_the_figures():
    for backlog, desired in itertools.product(range(60), range(11)):
        for spare_seconds in (None, 0.0, ZERO, 1e9):
            group = Group(0, 10, desired)
            found = decide(backlog, group, slots_per_host=4, spare_seconds=spare_seconds, stable_zero_seconds=ZERO)
            if found.desired is not None:
                assert found.desired >= min(10, desired_raw(backlog, 4))
                assert found.desired > desired or (spare_seconds or 0.0) >= ZERO
            if found.desired is not None and found.desired < desired:
                assert found.mark is Mark.SET


@pytest.mark.parametrize(
    ("busy", "idle_seconds", "protected", "told"),
    [
        # the first work protects, also where nobody knows how the group makes its hosts
        (1, 0.0, False, True),
        (1, 0.0, None, True),
        (4, 0.0, True, None),
        # a pause between two videos changes nothing
        (0, 0.0, True, None),
        (0, IDLE_SECONDS - 1, True, None),
        (0, 0.0, None, None),
        # a rest does
        (0, IDLE_SECONDS, True, False),
        (0, IDLE_SECONDS, None, False),
        # and is told once
        (0, 1e6, False, None),
    ],
)
def test_a_host_is_protected_while_it_works_and_a_little_longer(busy, idle_seconds, protected, told):
    assert protection(busy, idle_seconds, protected) is told


@pytest.mark.parametrize(
    ("held", "beat_seconds", "completed", "step"),
    [
        (2, None, False, Step.BEAT),
        (2, BEAT_SECONDS - 1, False, Step.NOTHING),
        (1, BEAT_SECONDS, False, Step.BEAT),
        (0, None, False, Step.COMPLETE),
        (0, 1.0, False, Step.COMPLETE),
        (0, 1e6, True, Step.NOTHING),
        (1, 1e6, True, Step.NOTHING),
    ],
)
def test_the_end_of_a_host_is_held_up_while_it_holds_something(held, beat_seconds, completed, step):
    assert lifecycle(held=held, beat_seconds=beat_seconds, completed=completed) is step
