from __future__ import annotations

import pytest

from appliance.adapters import aws as factory
from appliance.adapters.cloudwatch import CloudWatch
from appliance.domain.errors import Unavailable


@pytest.fixture
def cloudwatch(aws) -> CloudWatch:
    return CloudWatch(factory.client("cloudwatch", region=aws.region, endpoint_url=aws.endpoint_url), "Test/Workers")


def test_what_was_put_can_be_got(cloudwatch):
    cloudwatch.put({"BacklogCount": 12, "video_visible": 3.0})
    assert [value for _, value in cloudwatch.get("BacklogCount")] == [12.0]
    assert [value for _, value in cloudwatch.get("video_visible")] == [3.0]


def test_a_metric_that_nobody_published_is_empty(cloudwatch):
    assert cloudwatch.get("never") == []


def test_pages_are_followed():
    class Client:
        def get_metric_data(self, **request):
            token, values = {"": ("2", [1.0]), "2": ("", [2.0])}[request.get("NextToken", "")]
            return {"MetricDataResults": [{"Timestamps": [token], "Values": values}], "NextToken": token}

    assert [value for _, value in CloudWatch(Client(), "Test").get("x")] == [1.0, 2.0]


def test_f30_no_answer_is_unavailable_and_says_what_to_check():
    client = factory.client("cloudwatch", region="eu-west-1", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="put_metric_data") as caught:
        CloudWatch(client, "Test").put({"BacklogCount": 1})
    assert caught.value.dependency == "cloudwatch"
    assert "permissions" in caught.value.hint
