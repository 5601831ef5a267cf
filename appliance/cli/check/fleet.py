"""What only a fleet needs: EC2's metadata, the Auto Scaling group, CloudWatch. Raises Unavailable."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.ec2 import Metadata
from appliance.cli.check.finding import OK, PROBLEM, WARNING, Finding
from appliance.cli.check.services import POLICY, denied
from appliance.cli.services import Services
from appliance.domain.fleet import BACKLOG
from appliance.domain.notice import notice

#: Published to find out whether we may: a metric of its own, so that nothing is scaled on it.
CHECKED = "video_checked"


def ec2(services: Services) -> Iterator[Finding]:
    """The metadata service, where the file says that this is EC2."""
    fleet = services.config.fleet
    if not fleet.notices:
        return
    metadata = Metadata(fleet.metadata_url)
    name, seen = metadata.instance_id(), metadata.look()
    if said := notice(seen, drain_on_rebalance=fleet.drain_on_rebalance):
        yield Finding("ec2", WARNING, said.sentence, "Nothing is wrong here: the fleet goes on without this host.")
    yield Finding("ec2", OK, f"{name}, {seen.target_state or 'in no Auto Scaling group'}")


def group(services: Services) -> Iterator[Finding]:
    fleet = services.config.fleet
    if not fleet.group:
        return
    found = ScalingGroup(services.aws("autoscaling"), fleet.group).look()
    if not fleet.notices:
        sentence = f"A scale-in of {fleet.group} may choose a host that works: none can protect itself."
        yield Finding("autoscaling", WARNING, sentence, "Set fleet.notices: true, so that hosts know their names.")
    hosts = f"{found.desired} hosts wanted, {found.minimum} to {found.maximum}; {found.protected} protected"
    yield Finding("autoscaling", OK, f"{fleet.group}: {hosts}")


def cloudwatch(services: Services) -> Iterator[Finding]:
    """Publishes one point, and reads the backlog that others published."""
    settings = services.config.cloudwatch
    if not settings.enabled:
        return
    metrics = CloudWatch(services.aws("cloudwatch"), settings.namespace)
    asked: dict[str, Callable[[], object]] = {
        "cloudwatch:PutMetricData": lambda: metrics.put({CHECKED: 1.0}),
        "cloudwatch:GetMetricData": lambda: metrics.get(BACKLOG),
    }
    if missing := denied(asked):
        sentence = f"This role may not {', '.join(missing)} in {settings.namespace}."
        yield Finding("cloudwatch", PROBLEM, sentence, POLICY)
    else:
        points = metrics.get(BACKLOG)[BACKLOG]
        yield Finding("cloudwatch", OK, f"{len(points)} points of {BACKLOG} in the last 15 minutes")
