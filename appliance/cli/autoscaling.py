"""`autoscaling`: the policies and alarms of config/autoscaling/ with one's own names, as commands of the AWS CLI."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import appliance
from appliance.cli import exits, numbers, settings, terminal
from appliance.domain.errors import ApplianceError
from appliance.wiring.host import encoders

#: In a checkout and in an installed release alike.
TEMPLATES = Path(appliance.__file__).parents[1] / "config" / "autoscaling"
#: File → what puts it into place, in this order: the alarm that scales from zero wants the policy's ARN.
COMMANDS = {
    "group-metrics": "autoscaling enable-metrics-collection",
    "target-tracking": "autoscaling put-scaling-policy",
    "from-zero": "autoscaling put-scaling-policy",
    "from-zero-alarm": "cloudwatch put-metric-alarm",
    "missing-data-alarm": "cloudwatch put-metric-alarm",
    "lifecycle-hook": "autoscaling put-lifecycle-hook",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="NAME", help="the Auto Scaling group (default: fleet.group)")
    parser.add_argument("--slots", type=numbers.amount, metavar="N", help="encoders of a host (default: of this one)")
    parser.add_argument("--queue", metavar="NAME", help="the queue's name (default: that of queue.url)")
    for name, about in (
        ("POLICY-ARN", "what `from-zero` answered, for its alarm"),
        ("TOPIC-ARN", "who is told when nobody publishes the backlog"),
    ):
        parser.add_argument(f"--{name.lower()}", default=name, metavar="ARN", help=about)


def main(options: argparse.Namespace) -> int:
    """Prints and changes nothing. With --json one object, by file."""
    config = settings.read_or_default(options)
    group = options.group or config.fleet.group
    if not group:
        raise ApplianceError("The group's name is missing.", hint="Set fleet.group, or give --group NAME.")
    names = {
        "GROUP": group,
        "QUEUE": options.queue or config.queue.url.rpartition("/")[2] or "QUEUE",
        "NAMESPACE": config.cloudwatch.namespace,
        "SLOTS": float(options.slots or encoders(config)[0]),
        "POLICY-ARN": options.policy_arn,
        "TOPIC-ARN": options.topic_arn,
    }
    found = filled(names)
    if options.json:
        terminal.emit(found)
        return exits.DONE
    for name, body in found.items():
        terminal.say(f"# {name}")
        terminal.say(f"aws {COMMANDS[name]} --cli-input-json {shlex.quote(json.dumps(body))}")
    return exits.DONE


def filled(names: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every template of COMMANDS, with these in place of the words in capitals."""
    return {name: _filled(json.loads((TEMPLATES / f"{name}.json").read_text()), names) for name in COMMANDS}


def _filled(value: Any, names: dict[str, Any]) -> Any:
    match value:
        case dict():
            return {key: _filled(item, names) for key, item in value.items()}
        case list():
            return [_filled(item, names) for item in value]
        case str():
            return names.get(value, value)
        case _:
            return value
