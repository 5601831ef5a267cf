"""An EC2 Auto Scaling group: what it wants now, and what it shall want."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from appliance.domain.errors import Unavailable
from appliance.domain.fleet import Group

DEPENDENCY = "autoscaling"


class ScalingGroup:
    """`client` is boto3's autoscaling client. Every method raises Unavailable("autoscaling", …)."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def look(self) -> Group:
        found = self._call("describe_auto_scaling_groups", AutoScalingGroupNames=[self.name])["AutoScalingGroups"]
        if not found:
            hint = "Check fleet.group and aws.region; nothing is scaled meanwhile."
            raise Unavailable(DEPENDENCY, f"There is no Auto Scaling group {self.name}.", hint=hint)
        return Group(found[0]["MinSize"], found[0]["MaxSize"], found[0]["DesiredCapacity"])

    def want(self, desired: int) -> None:
        """Without waiting for a cooldown: the decision has its own patience."""
        self._call("set_desired_capacity", AutoScalingGroupName=self.name, DesiredCapacity=desired, HonorCooldown=False)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, method)(**arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise Unavailable(
                DEPENDENCY,
                f"Auto Scaling refused or did not answer {method}: {error}",
                hint="Check the instance role (config/iam-policy.json) and the network; nothing is scaled meanwhile.",
            ) from error
        return answer
