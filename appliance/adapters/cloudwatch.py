"""CloudWatch: put a handful of figures, get one series back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from appliance.domain.errors import Unavailable


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

    def get(self, name: str, *, period_seconds: int = 60, minutes: int = 15) -> list[tuple[datetime, float]]:
        """The metric's averages over the last `minutes`, oldest first; empty when nothing was published."""
        now = datetime.now(UTC)
        statistic = {
            "Metric": {"Namespace": self._namespace, "MetricName": name},
            "Period": period_seconds,
            "Stat": "Average",
        }
        request: dict[str, Any] = {
            "MetricDataQueries": [{"Id": "series", "MetricStat": statistic}],
            "StartTime": now - timedelta(minutes=minutes),
            # The minute that runs now is still to come for CloudWatch, which rounds the end down.
            "EndTime": now + timedelta(seconds=period_seconds),
            "ScanBy": "TimestampAscending",
        }
        points: list[tuple[datetime, float]] = []
        while True:
            answer = self._call("get_metric_data", **request)
            for series in answer["MetricDataResults"]:
                points += zip(series["Timestamps"], series["Values"], strict=True)
            if not answer.get("NextToken"):
                return points
            request["NextToken"] = answer["NextToken"]

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, method)(**arguments)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise Unavailable(
                "cloudwatch",
                f"CloudWatch refused or did not answer {method}: {error}",
                hint="Check the instance role's cloudwatch permissions and the network; encoding goes on without it.",
            ) from error
        return answer
