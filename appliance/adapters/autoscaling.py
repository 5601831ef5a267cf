"""An EC2 Auto Scaling group: what it wants, what it shall want, and what one of its hosts tells it of itself."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from appliance.domain.errors import Unavailable
from appliance.domain.fleet import Group
from appliance.domain.refusal import cure

DEPENDENCY = "autoscaling"
MEANWHILE = "Encoding goes on; nothing is scaled on a guess."


class ScalingGroup:
    """`client` is boto3's autoscaling client. Every method raises Unavailable("autoscaling", …)."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def look(self) -> Group:
        found = self._call("describe_auto_scaling_groups", AutoScalingGroupNames=[self.name])["AutoScalingGroups"]
        if not found:
            hint = f"Check fleet.group and aws.region. {MEANWHILE}"
            raise Unavailable(DEPENDENCY, f"There is no Auto Scaling group {self.name}.", hint=hint)
        group = found[0]
        protected = sum(host["ProtectedFromScaleIn"] for host in group["Instances"])
        return Group(group["MinSize"], group["MaxSize"], group["DesiredCapacity"], protected)

    def want(self, desired: int) -> None:
        """Without waiting for a cooldown: the decision has its own patience."""
        self._call("set_desired_capacity", AutoScalingGroupName=self.name, DesiredCapacity=desired, HonorCooldown=False)

    def protect(self, instance_id: str, *, on: bool) -> None:
        """Whether a scale-in may choose this host."""
        self._call(
            "set_instance_protection",
            InstanceIds=[instance_id],
            AutoScalingGroupName=self.name,
            ProtectedFromScaleIn=on,
        )

    def wait_for(self, hook: str, instance_id: str) -> None:
        """The hook's time-out for this host begins anew."""
        self._call("record_lifecycle_action_heartbeat", **self._action(hook, instance_id))

    def complete(self, hook: str, instance_id: str) -> None:
        """This host is done; the group goes on."""
        self._call("complete_lifecycle_action", **self._action(hook, instance_id), LifecycleActionResult="CONTINUE")

    def _action(self, hook: str, instance_id: str) -> dict[str, str]:
        return {"LifecycleHookName": hook, "AutoScalingGroupName": self.name, "InstanceId": instance_id}

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, method)(**arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            what = f"Auto Scaling refused or did not answer {method}: {error}"
            raise Unavailable(DEPENDENCY, what, hint=f"{self._cure(error)} {MEANWHILE}") from error
        return answer

    def _cure(self, error: Exception) -> str:
        """By what was said: a permission, a name, a clock, or the network."""
        if not isinstance(error, ClientError):
            return "Check the network and the instance role."
        code = error.response["Error"].get("Code", "")
        if known := cure(code, f"autoscaling:{error.operation_name}"):
            return known
        if "ifecycle" in str(error):
            return "Check the hook's name (fleet.lifecycle_hook)."
        if code == "ValidationError":
            return f"Does the group {self.name} (fleet.group) exist, and is this host one of its hosts in service?"
        return "It is asked again."
