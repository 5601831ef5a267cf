"""What EC2 says of this host, and its Auto Scaling group. Raises Unavailable where one does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.ec2 import Metadata
from appliance.cli.check.finding import OK, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.domain.notice import notice


def ec2(config: Config) -> Iterator[Finding]:
    """The metadata service, where the file says that this is EC2."""
    if not config.fleet.notices:
        return
    metadata = Metadata(config.fleet.metadata_url)
    name, seen = metadata.instance_id(), metadata.look()
    if said := notice(seen, drain_on_rebalance=config.fleet.drain_on_rebalance):
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
