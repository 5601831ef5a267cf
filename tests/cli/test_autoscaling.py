"""The policies as printed, put into place on moto's AWS."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from appliance.cli.autoscaling import COMMANDS
from tests.hosts import World
from tests.shell import appliance
from tests.supervisor.test_fleet import make_group

METHODS = {
    "autoscaling enable-metrics-collection": ("autoscaling", "enable_metrics_collection"),
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
    assert bodies[4]["AlarmActions"] == ["arn:aws:sns:x"]


def test_from_zero_is_counted_by_who_is_there_without_a_host(world: World, settings: Path) -> None:
    """Without a host nobody publishes our metrics: only what AWS publishes itself brings the first."""
    ran = appliance("autoscaling", "--config", settings, "--group", "hosts", "--json").last
    metrics = [it["MetricStat"]["Metric"] for it in ran["from-zero-alarm"]["Metrics"] if "MetricStat" in it]
    assert {metric["Namespace"].split("/")[0] for metric in metrics} == {"AWS"}
    assert metrics[0]["Dimensions"] == [{"Name": "QueueName", "Value": world.queue_url.rpartition("/")[2]}]
    (watched,) = (it["Expression"] for it in ran["missing-data-alarm"]["Metrics"] if "Expression" in it)
    assert watched.startswith("IF(hosts < 1, 1,"), "a fleet that sleeps is no alarm"


def test_without_a_group_it_says_what_to_give(settings: Path) -> None:
    ran = appliance("autoscaling", "--config", settings)
    assert ran.status == 1
    assert "--group NAME" in ran.err
    settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "fleet": {"group": "hosts"}}))
    assert '"AutoScalingGroupName": "hosts"' in appliance("autoscaling", "--config", settings).out
