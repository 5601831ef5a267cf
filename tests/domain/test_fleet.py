import pytest

from appliance.domain.fleet import backlog_count, desired_raw


def test_the_backlog_is_what_waits_and_what_is_worked_on():
    assert backlog_count({"PENDING": 9, "UPLOADED": 3, "PROCESSING": 2, "READY": 50, "FAILED": 1}) == 5
    assert backlog_count({}) == 0


@pytest.mark.parametrize(("backlog", "slots", "hosts"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (3, 0, 3)])
def test_hosts_that_would_take_everything_at_once(backlog, slots, hosts):
    assert desired_raw(backlog, slots) == hosts
