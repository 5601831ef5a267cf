"""A host that EC2 takes away, in front of a real metadata server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import pytest
import structlog

from appliance.adapters import aws as factory
from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.ec2 import Metadata
from appliance.config import Config
from appliance.domain.notice import SPOT_SECONDS, Kind
from appliance.supervisor import fleet, notices
from appliance.supervisor.fleet import Member
from appliance.supervisor.notices import Notices
from appliance.supervisor.pool import State
from tests.metadata import INSTANCE_ID, REBALANCE, SPOT, SPOT_NOTICE, STATE, Instance, instance
from tests.supervisor import children
from tests.supervisor.stage import Theatre, tell, until, with_pool

SOON = '{"noticeTime": "2026-11-25T10:00:00Z"}'


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    monkeypatch.setattr(notices, "ASK_SECONDS", 0.02)
    with instance() as ec2:
        yield ec2


def theatre_on(ec2: Instance, directory, behaviour, config: Config | None = None, **settings) -> Theatre:
    theatre = Theatre(directory, behaviour, config=config or with_pool(encoders=1))
    settings = {"drain_on_rebalance": False, **settings}
    theatre.services.append(
        Notices(Metadata(ec2.url), board=theatre.board, dependencies=theatre.dependencies, **settings)
    )
    return theatre


def test_f39_a_spot_notice_releases_what_is_held_and_the_host_takes_no_new_work(ec2, tmp_path):
    """The encoder goes on at the first signal and gives back at the second: its time was over."""
    held = partial(children.hold, token=uuid4())
    theatre = theatre_on(ec2, tmp_path, held, with_pool(encoders=1, drain_seconds=0.05))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        ec2.says[SPOT] = SPOT_NOTICE
        until(lambda: theatre.metrics.value("jobs", "released") == 1 and theatre.board.slots == ())
        assert theatre.board.draining
        (reason, _) = theatre.board.unready({})
        assert reason.startswith("draining: EC2 takes this spot instance away (terminate at 2026-11-25T10:02:00Z)")
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert theatre.recorder.calls == []
    (notice,), (handing,) = theatre.events("HOST_NOTICE"), theatre.events("HANDING_OVER")
    assert (notice["kind"], notice["drains"], handing["seconds"]) == (Kind.SPOT, True, 0.05)
    assert theatre.board.instance_id == INSTANCE_ID


def test_f39_a_longer_drain_is_cut_to_what_ec2_leaves_and_one_that_runs_is_hurried(ec2, tmp_path):
    """Told to go by its group the host has its own time; then a spot notice takes that away."""
    theatre = theatre_on(ec2, tmp_path, partial(children.hold, token=uuid4()), with_pool(encoders=1, drain_seconds=600))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        ec2.says[STATE] = "Terminated"
        until(lambda: theatre.states() == ["draining"])
        assert theatre.board.slots[0].leaves_in_seconds > SPOT_SECONDS
        ec2.says[SPOT] = SPOT_NOTICE
        until(lambda: theatre.board.slots[0].leaves_in_seconds <= SPOT_SECONDS)
        tell(signal.SIGINT)

    assert theatre.play(story) == 0
    assert [line["seconds"] for line in theatre.events("HANDING_OVER")] == [600, SPOT_SECONDS]
    assert theatre.metrics.value("jobs", "released") == 1


def test_a_host_that_is_not_taken_away_after_all_works_again(ec2, tmp_path):
    theatre = theatre_on(ec2, tmp_path, children.quiet)

    def story() -> None:
        until(lambda: theatre.states() == ["idle"])
        ec2.says[SPOT] = SPOT_NOTICE
        until(lambda: theatre.board.draining and theatre.board.slots == ())
        tell(signal.SIGHUP)  # a reload brings no encoder back
        until(lambda: theatre.events("RELOADED"))
        del ec2.says[SPOT]
        until(lambda: theatre.states() == ["idle"] and not theatre.board.draining)
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert [line["reason"] for line in theatre.events("ENCODER_ENDED")] == ["drained", "drained"]
    assert len(theatre.events("HOST_NOTICE_OVER")) == 1


@pytest.mark.parametrize("drains", [False, True])
def test_f39_advice_to_rebalance_is_shown_and_drains_only_where_that_is_set(ec2, tmp_path, drains):
    ec2.says[REBALANCE] = SOON
    theatre = theatre_on(ec2, tmp_path, children.quiet, drain_on_rebalance=drains)

    def story() -> None:
        until(lambda: theatre.board.notice)
        if drains:
            until(lambda: theatre.board.slots == ())
        else:
            until(lambda: theatre.states() == ["idle"])
            assert "may soon be taken away: it works on" in theatre.board.notices["ec2"]
            del ec2.says[REBALANCE]
            until(lambda: "ec2" not in theatre.board.notices)
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    (line,) = theatre.events("HOST_NOTICE")
    assert (line["kind"], line["drains"]) == (Kind.REBALANCE, drains)
    assert len(theatre.events("HANDING_OVER")) == drains


def test_f30_a_metadata_service_that_goes_away_is_said_once_and_what_was_known_stays(tmp_path):
    theatre = Theatre(tmp_path, children.quiet)
    board = theatre.board
    with structlog.testing.capture_logs() as logged:
        with instance() as ec2:
            ec2.says[STATE] = "Terminated"
            asked = Notices(
                Metadata(ec2.url, timeout_seconds=20.0),
                drain_on_rebalance=False,
                board=board,
                dependencies=theatre.dependencies,
            )
            asked.ask()
        for _ in range(3):
            asked.ask()
    assert board.notice is not None
    assert board.notice.kind is Kind.TERMINATION
    assert [line["event"] for line in logged] == ["HOST_NOTICE", "DEPENDENCY_DOWN"]
    assert logged[1]["dependency"] == "ec2"
    assert theatre.metrics.value("dependency_errors", "ec2") == 3


def test_f30_off_ec2_nothing_is_assumed_and_encoding_goes_on(tmp_path):
    theatre = Theatre(tmp_path, children.one_job)
    nobody = Metadata("http://127.0.0.1:9")
    theatre.services.append(
        Notices(nobody, drain_on_rebalance=True, board=theatre.board, dependencies=theatre.dependencies)
    )

    def story() -> None:
        until(lambda: theatre.metrics.value("jobs", "ok") == 1 and theatre.events("DEPENDENCY_DOWN"))
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    (down,) = theatre.events("DEPENDENCY_DOWN")
    assert "fleet.notices: false" in down["hint"]
    assert (theatre.board.notice, theatre.board.instance_id) == (None, "")


def test_an_encoder_that_dies_while_the_host_is_handed_over_is_not_replaced(ec2, tmp_path):
    token = uuid4()
    theatre = theatre_on(ec2, tmp_path, partial(children.hold, token=token))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        ec2.says[SPOT] = SPOT_NOTICE
        until(lambda: theatre.states() == ["draining"])
        os.kill(theatre.board.slots[0].pid, signal.SIGKILL)
        until(lambda: theatre.board.slots == () and theatre.recorder.calls)
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert theatre.recorder.calls == [("abandon", token)]
    assert State.STARTING not in theatre.states()


def test_f39_a_host_that_its_group_ends_hands_over_while_the_hook_waits_for_it(ec2, tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "TURN_SECONDS", 0.02)
    held = partial(children.hold, token=uuid4())
    theatre = theatre_on(ec2, tmp_path, held, with_pool(encoders=1, drain_seconds=0.5))
    client = factory.client("autoscaling", region="eu-west-1", endpoint_url=ec2.url, tries=1)
    beside = {"board": theatre.board, "dependencies": theatre.dependencies}
    theatre.services.append(Member(ScalingGroup(client, "encoders"), hook="drain", clock=time.monotonic, **beside))

    def story() -> None:
        until(lambda: "SetInstanceProtection" in ec2.actions())
        ec2.says[STATE] = "Terminated"
        until(lambda: "CompleteLifecycleAction" in ec2.actions())
        assert theatre.metrics.value("jobs", "released") == 1
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    told = ["SetInstanceProtection", "RecordLifecycleActionHeartbeat", "CompleteLifecycleAction"]
    assert ec2.actions() == told, "and nothing of protection at the end"
