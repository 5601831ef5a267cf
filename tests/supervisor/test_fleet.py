"""What the group is told: on moto's Auto Scaling and Systems Manager, and on a server of our own where moto has no such
call.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from appliance.adapters import aws as factory
from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.ssm import Parameter
from appliance.domain.errors import Unavailable
from appliance.domain.fleet import BEAT_SECONDS, IDLE_SECONDS, Group
from appliance.domain.notice import Seen, notice
from appliance.supervisor.board import Board, SlotView
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.fleet import AGAIN_SECONDS, Director, Member
from appliance.supervisor.metrics import Metrics
from tests.metadata import INSTANCE_ID, Instance, instance

SLOTS = 4


def make_group(aws: Any) -> str:
    """A group of one to five hosts, two wanted; returns its name."""
    client, name = aws.client("autoscaling"), f"encoders-{uuid.uuid4().hex}"
    client.create_launch_configuration(LaunchConfigurationName=name, ImageId="ami-1", InstanceType="c7g.large")
    client.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchConfigurationName=name,
        AvailabilityZones=[f"{aws.region}a"],
        MinSize=1,
        MaxSize=5,
        DesiredCapacity=2,
    )
    return name


class Account:
    """A group of its own, and its note."""

    def __init__(self, aws: Any) -> None:
        self.client = factory.client("autoscaling", region=aws.region, endpoint_url=aws.endpoint_url)
        ssm = factory.client("ssm", region=aws.region, endpoint_url=aws.endpoint_url)
        name = make_group(aws)
        self.group = ScalingGroup(self.client, name)
        self.note = Parameter(ssm, f"/test/{name}")

    def hosts(self, *, protected: bool | None = None) -> list[str]:
        """Their names; only those that are protected from scale-in, or are not."""
        found = self.client.describe_auto_scaling_groups(AutoScalingGroupNames=[self.group.name])["AutoScalingGroups"]
        return [
            host["InstanceId"] for host in found[0]["Instances"] if protected in (None, host["ProtectedFromScaleIn"])
        ]

    def director(self, stable_zero_seconds: float = 1200.0) -> Director:
        return Director(self.group, self.note, stable_zero_seconds=stable_zero_seconds)


@pytest.fixture
def account(aws: Any) -> Account:
    return Account(aws)


def test_work_for_more_hosts_is_told_to_the_group_with_the_reason(account: Account) -> None:
    with structlog.testing.capture_logs() as logged:
        account.director().steer(13, SLOTS)
    assert account.group.look() == Group(1, 5, 4, protected=0)
    (line,) = logged
    assert (line["event"], line["desired"]) == ("FLEET_DECISION", 4)
    assert line["reason"] == "13 videos for 4 slots a host want 4 hosts, 2 are asked for"


def test_less_work_lets_hosts_go_once_it_has_been_so_for_long_whoever_looks(account: Account) -> None:
    account.director().steer(1, SLOTS)
    assert account.note.age_seconds() is not None
    account.director().steer(1, SLOTS)
    assert account.group.look().desired == 2
    account.director(stable_zero_seconds=0.0).steer(1, SLOTS)
    assert account.group.look().desired == 2, "nobody says that it works: is that so, or may it not say it?"
    account.group.protect(account.hosts()[0], on=True)
    account.director(stable_zero_seconds=0.0).steer(1, SLOTS)
    assert account.group.look() == Group(1, 5, 1, protected=1)


def test_work_takes_the_note_away(account: Account) -> None:
    account.director().steer(0, SLOTS)
    account.director().steer(2 * SLOTS, SLOTS)
    assert account.note.age_seconds() is None
    account.note.delete()  # one that is gone already


def test_the_same_answer_is_logged_once(account: Account) -> None:
    director = account.director()
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            director.steer(2 * SLOTS, SLOTS)
    assert len(logged) == 1


def test_a_group_that_does_not_exist_is_named_and_nothing_is_scaled_on_a_guess(account: Account) -> None:
    missing = Director(ScalingGroup(account.client, "nobody"), account.note, stable_zero_seconds=0.0)
    with pytest.raises(Unavailable, match="no Auto Scaling group nobody") as caught:
        missing.steer(0, SLOTS)
    assert "fleet.group" in caught.value.hint
    assert account.note.age_seconds() is None


def test_a_note_that_cannot_be_read_scales_nothing(account: Account) -> None:
    silent = Parameter(factory.client("ssm", region="eu-west-1", endpoint_url="http://127.0.0.1:9", tries=1), "/x")
    with pytest.raises(Unavailable, match="get_parameter"):
        Director(account.group, silent, stable_zero_seconds=0.0).steer(99, SLOTS)
    assert account.group.look().desired == 2


def slot(number: int, *, working: bool) -> SlotView:
    video_id = 7 if working else None
    return SlotView(number, "busy" if working else "idle", 4000 + number, 1.0, 0, video_id, None, "", None, None)


BUSY, IDLE = (slot(0, working=True), slot(1, working=False)), (slot(0, working=False), slot(1, working=False))


class Hosted:
    """One host of a group, whose clock stands still until it is moved."""

    def __init__(self, group: ScalingGroup, instance_id: str) -> None:
        self.now = 1000.0
        self.board = Board(0.0, 0.0, slots=IDLE, instance_id=instance_id)
        self.metrics = Metrics()
        self.dependencies = Dependencies(time.monotonic, self.metrics.count)
        self.member = Member(
            group, hook="video-drain", board=self.board, dependencies=self.dependencies, clock=lambda: self.now
        )

    def turn(self, slots: tuple[SlotView, ...], *, later: float = 0.0) -> list[Any]:
        """One look at the board, and what was logged."""
        self.now += later
        self.board.slots = slots
        with structlog.testing.capture_logs() as logged:
            self.member.turn()
        return logged

    def ends(self) -> None:
        """Its group lets it go, and the main loop knows."""
        self.board.seen = Seen(target_state="Terminated")
        self.board.notice = notice(self.board.seen, drain_on_rebalance=False)
        self.board.draining = True


@pytest.fixture
def ec2() -> Iterator[Instance]:
    with instance() as ec2:
        yield ec2


@pytest.fixture
def hosted(ec2: Instance) -> Hosted:
    client = factory.client("autoscaling", region="eu-west-1", endpoint_url=ec2.url, tries=1)
    return Hosted(ScalingGroup(client, "encoders"), INSTANCE_ID)


def test_a_host_is_protected_with_its_first_work_and_free_after_a_rest(account: Account) -> None:
    mine, _ = account.hosts()
    hosted = Hosted(account.group, mine)
    (line,) = hosted.turn(BUSY)
    assert (line["event"], line["on"], line["instance_id"]) == ("SCALE_IN_PROTECTION", True, mine)
    assert (account.hosts(protected=True), hosted.board.protected) == ([mine], True)
    assert hosted.turn(BUSY, later=600.0) == []
    assert hosted.turn(IDLE, later=IDLE_SECONDS - 1) == []
    assert [line["on"] for line in hosted.turn(IDLE, later=1.0)] == [False]
    assert (account.hosts(protected=True), hosted.board.protected) == ([], False)


def test_a_service_that_ends_leaves_no_protected_host_behind(hosted: Hosted, ec2: Instance) -> None:
    hosted.turn(BUSY)
    hosted.member.start()
    hosted.member.stop(20)
    assert [told["ProtectedFromScaleIn"] for told in ec2.told] == ["true", "false"]


def test_a_host_without_a_name_tells_nothing(hosted: Hosted, ec2: Instance) -> None:
    hosted.board.instance_id = ""
    hosted.turn(BUSY)
    assert ec2.told == []


def test_f39_the_hook_waits_while_encoders_leave_and_goes_on_when_they_have_left(hosted: Hosted, ec2: Instance) -> None:
    hosted.ends()
    hosted.turn(BUSY)
    hosted.turn(BUSY, later=BEAT_SECONDS - 1)
    hosted.turn(BUSY, later=1.0)
    hosted.turn(())
    hosted.turn((), later=600.0)
    assert ec2.actions() == [*["RecordLifecycleActionHeartbeat"] * 2, "CompleteLifecycleAction"]
    mine = {"LifecycleHookName": "video-drain", "AutoScalingGroupName": "encoders", "InstanceId": INSTANCE_ID}
    assert all(mine.items() <= told.items() for told in ec2.told)
    assert ec2.told[-1]["LifecycleActionResult"] == "CONTINUE"


def test_the_hook_does_not_go_on_before_the_main_loop_has_heeded_the_notice(hosted: Hosted, ec2: Instance) -> None:
    hosted.ends()
    hosted.board.draining = False
    hosted.turn(())
    assert ec2.actions() == ["RecordLifecycleActionHeartbeat"]


@pytest.mark.parametrize(
    ("status", "code", "words", "cure"),
    [
        (403, "AccessDenied", "no identity-based policy allows it", "lacks autoscaling:SetInstanceProtection"),
        (400, "Throttling", "Rate exceeded", "It is asked again"),
        (400, "ValidationError", "AutoScalingGroup name not found", "Does the group encoders (fleet.group) exist"),
        (400, "RequestExpired", "Request has expired", "Is this host's clock right?"),
        (403, "SignatureDoesNotMatch", "Signature expired", "Is this host's clock right?"),
        (500, "InternalFailure", "", "It is asked again"),
    ],
)
def test_f30_what_the_group_refuses_is_said_once_with_the_cure_and_asked_again_seldom(
    hosted: Hosted, ec2: Instance, status: int, code: str, words: str, cure: str
) -> None:
    ec2.refuses["SetInstanceProtection"] = (status, code, words)
    (line,) = hosted.turn(BUSY)
    assert (line["event"], line["dependency"]) == ("DEPENDENCY_DOWN", "autoscaling")
    assert cure in line["hint"]
    for _ in range(int(AGAIN_SECONDS) - 1):
        assert hosted.turn(BUSY, later=1.0) == []
    assert len(ec2.told) == 1
    ec2.refuses.clear()
    back, told = hosted.turn(BUSY, later=1.0)
    assert (back["event"], told["event"]) == ("DEPENDENCY_BACK", "SCALE_IN_PROTECTION")


def test_f30_a_hook_of_another_name_is_named(hosted: Hosted, ec2: Instance) -> None:
    hosted.ends()
    ec2.refuses["CompleteLifecycleAction"] = (400, "ValidationError", "No active Lifecycle Action found")
    (line,) = hosted.turn(())
    assert "fleet.lifecycle_hook" in line["hint"]


def test_f30_a_group_that_does_not_answer_is_an_outage_like_any_other() -> None:
    nobody = factory.client("autoscaling", region="eu-west-1", endpoint_url="http://127.0.0.1:9", tries=1)
    (line,) = Hosted(ScalingGroup(nobody, "encoders"), INSTANCE_ID).turn(BUSY)
    assert "Check the network and the instance role." in line["hint"]
