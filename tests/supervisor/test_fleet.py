"""Direct mode on moto's Auto Scaling and Systems Manager."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import structlog

from appliance.adapters import aws as factory
from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.ssm import Parameter
from appliance.domain.errors import Unavailable
from appliance.domain.fleet import Group
from appliance.supervisor.fleet import Director

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

    def director(self, stable_zero_seconds: float = 1200.0) -> Director:
        return Director(self.group, self.note, stable_zero_seconds=stable_zero_seconds)


@pytest.fixture
def account(aws: Any) -> Account:
    return Account(aws)


def test_work_for_more_hosts_is_told_to_the_group_with_the_reason(account: Account) -> None:
    with structlog.testing.capture_logs() as logged:
        account.director().steer(13, SLOTS)
    assert account.group.look() == Group(1, 5, 4)
    (line,) = logged
    assert (line["event"], line["desired"]) == ("FLEET_DECISION", 4)
    assert line["reason"] == "13 videos for 4 slots a host want 4 hosts, 2 are asked for"


def test_less_work_lets_hosts_go_once_it_has_been_so_for_long_whoever_looks(account: Account) -> None:
    account.director().steer(1, SLOTS)
    assert account.note.age_seconds() is not None
    account.director().steer(1, SLOTS)
    assert account.group.look().desired == 2
    account.director(stable_zero_seconds=0.0).steer(1, SLOTS)
    assert account.group.look().desired == 1


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
