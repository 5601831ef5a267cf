"""The policies as printed, put into place on moto's AWS."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from appliance.cli.autoscaling import COMMANDS
from tests.shell import appliance
from tests.supervisor.test_fleet import make_group

METHODS = {
    "autoscaling put-scaling-policy": ("autoscaling", "put_scaling_policy"),
    "autoscaling put-lifecycle-hook": ("autoscaling", "put_lifecycle_hook"),
    "cloudwatch put-metric-alarm": ("cloudwatch", "put_metric_alarm"),
}


def test_every_policy_is_taken_by_aws_and_speaks_of_this_group(aws: Any, settings: Path) -> None:
    group = make_group(aws)
    ran = appliance("autoscaling", "--config", settings, "--group", group, "--slots", 4, "--json")
    assert ran.status == 0
    assert list(ran.last) == list(COMMANDS)
    for name, body in ran.last.items():
        service, method = METHODS[COMMANDS[name]]
        getattr(aws.client(service), method)(**body)
    (tracking,) = [
        policy
        for policy in aws.client("autoscaling").describe_policies(AutoScalingGroupName=group)["ScalingPolicies"]
        if policy["PolicyType"] == "TargetTrackingScaling"
    ]
    assert tracking["TargetTrackingConfiguration"]["TargetValue"] == 4
    assert ran.last["target-tracking"]["TargetTrackingConfiguration"]["CustomizedMetricSpecification"]["Metrics"][0][
        "MetricStat"
    ]["Metric"] == {"Namespace": "Academy/Workers", "MetricName": "BacklogCount"}


def test_the_commands_can_be_pasted(settings: Path) -> None:
    ran = appliance("autoscaling", "--config", settings, "--group", "it's ours", "--topic-arn", "arn:aws:sns:x")
    lines = [line for line in ran.out.splitlines() if not line.startswith("#")]
    assert len(lines) == len(COMMANDS)
    bodies = [json.loads(shlex.split(line)[-1]) for line in lines]
    assert bodies[0]["AutoScalingGroupName"] == "it's ours"
    assert bodies[3]["AlarmActions"] == ["arn:aws:sns:x"]


def test_without_a_group_it_says_what_to_give(settings: Path) -> None:
    ran = appliance("autoscaling", "--config", settings)
    assert ran.status == 1
    assert "--group NAME" in ran.err
    settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "fleet": {"group": "hosts"}}))
    assert '"AutoScalingGroupName": "hosts"' in appliance("autoscaling", "--config", settings).out
