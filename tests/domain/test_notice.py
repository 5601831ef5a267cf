import pytest

from appliance.domain.notice import SPOT_SECONDS, Kind, Seen, notice

AT = "2026-11-25T10:02:00Z"


@pytest.mark.parametrize(
    ("seen", "kind", "within"),
    [
        (Seen(spot_action="terminate", spot_time=AT), Kind.SPOT, SPOT_SECONDS),
        (Seen(spot_action="stop"), Kind.SPOT, SPOT_SECONDS),
        (Seen(target_state="Terminated"), Kind.TERMINATION, None),
        (Seen(target_state="Warmed:Terminated"), Kind.TERMINATION, None),
        # the most urgent one
        (Seen(spot_action="terminate", rebalance_time=AT, target_state="Terminated"), Kind.SPOT, SPOT_SECONDS),
        (Seen(rebalance_time=AT, target_state="Terminated"), Kind.TERMINATION, None),
    ],
)
def test_f39_a_host_that_is_taken_away_hands_its_work_over(seen, kind, within):
    found = notice(seen, drain_on_rebalance=False)
    assert (found.kind, found.drains, found.within_seconds) == (kind, True, within)
    assert seen.spot_time in found.sentence


@pytest.mark.parametrize("state", ["", "InService", "Standby", "Detached", "Warmed:Stopped", "Warmed:Running"])
def test_a_host_that_stays_works_on(state):
    assert notice(Seen(target_state=state), drain_on_rebalance=True) is None


@pytest.mark.parametrize("drains", [False, True])
def test_f39_advice_to_rebalance_is_told_and_followed_only_where_that_is_wanted(drains):
    found = notice(Seen(rebalance_time=AT, target_state="InService"), drain_on_rebalance=drains)
    assert (found.kind, found.drains) == (Kind.REBALANCE, drains)
    assert AT in found.sentence
