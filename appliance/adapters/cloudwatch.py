"""CloudWatch: put a handful of figures, get them back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from appliance.domain.errors import Unavailable
from appliance.domain.refusal import cure

Point = tuple[datetime, float]


class CloudWatch:
    """`client` is boto3's CloudWatch client. Every method raises Unavailable("cloudwatch", …)."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def put(self, metrics: dict[str, float]) -> None:
        """Publish all of them in one PutMetricData, stamped by CloudWatch; `…_seconds` are seconds, the rest counts."""
        data = [
            {"MetricName": name, "Value": value, "Unit": "Seconds" if name.endswith("_seconds") else "Count"}
            for name, value in metrics.items()
        ]
        self._call("put_metric_data", Namespace=self._namespace, MetricData=data)

    def get(self, *names: str, period_seconds: int = 60, minutes: int = 15) -> dict[str, list[Point]]:
        """Each metric's averages over the last `minutes`, oldest first; empty when nothing was published."""
        now = datetime.now(UTC)
        queries = {f"m{number}": name for number, name in enumerate(names)}
        request: dict[str, Any] = {
            "MetricDataQueries": [self._query(key, name, period_seconds) for key, name in queries.items()],
            "StartTime": now - timedelta(minutes=minutes),
            # The minute that runs now is still to come for CloudWatch, which rounds the end down.
            "EndTime": now + timedelta(seconds=period_seconds),
            "ScanBy": "TimestampAscending",
        }
        found: dict[str, list[Point]] = {name: [] for name in names}
        while True:
            answer = self._call("get_metric_data", **request)
            for series in answer["MetricDataResults"]:
                found[queries[series["Id"]]] += zip(series["Timestamps"], series["Values"], strict=True)
            if not answer.get("NextToken"):
                return found
            request["NextToken"] = answer["NextToken"]

    def _query(self, key: str, name: str, period_seconds: int) -> dict[str, Any]:
        metric = {"Namespace": self._namespace, "MetricName": name}
        return {"Id": key, "MetricStat": {"Metric": metric, "Period": period_seconds, "Stat": "Average"}}

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, method)(**arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else ""
            known = cure(code, f"cloudwatch:{error.operation_name}") if isinstance(error, ClientError) else ""
            hint = f"{known or 'Check the network and the instance role.'} Encoding goes on without it."
            raise Unavailable(
                "cloudwatch", f"CloudWatch refused or did not answer {method}: {error}", hint=hint
            ) from error
        return answer
