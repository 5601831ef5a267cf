from __future__ import annotations

import pytest
from botocore.stub import Stubber

from appliance.adapters import aws as factory
from appliance.adapters.cloudwatch import CloudWatch
from appliance.domain.errors import Unavailable


@pytest.fixture
def cloudwatch(aws) -> CloudWatch:
    return CloudWatch(factory.client("cloudwatch", region=aws.region, endpoint_url=aws.endpoint_url), "Test/Workers")


def test_what_was_put_can_be_got(cloudwatch):
    cloudwatch.put({"BacklogCount": 12, "video_visible": 3.0})
    found = cloudwatch.get("BacklogCount", "never", "video_visible")
    assert {name: [value for _, value in points] for name, points in found.items()} == {
        "BacklogCount": [12.0],
        "never": [],
        "video_visible": [3.0],
    }


def test_pages_are_followed():
    class Client:
        def get_metric_data(self, **request):
            token, values = {"": ("2", [1.0]), "2": ("", [2.0])}[request.get("NextToken", "")]
            return {"MetricDataResults": [{"Id": "m0", "Timestamps": [token], "Values": values}], "NextToken": token}

    assert [value for _, value in CloudWatch(Client(), "Test").get("x")["x"]] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("AccessDenied", "lacks cloudwatch:GetMetricData; config/iam-policy.json has it."),
        ("RequestExpired", "Is this host's clock right?"),
        ("Throttling", "It is asked again"),
        ("InternalServiceFault", "Check the network and the instance role."),
    ],
)
def test_f30_a_refusal_names_what_is_missing(code, cure):
    client = factory.client("cloudwatch", region="eu-west-1")
    with Stubber(client) as stubbed:
        stubbed.add_client_error("get_metric_data", code)
        with pytest.raises(Unavailable, match=code) as caught:
            CloudWatch(client, "Test").get("BacklogCount")
    assert cure in caught.value.hint


def test_f30_no_answer_is_unavailable_and_says_what_to_check():
    client = factory.client("cloudwatch", region="eu-west-1", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="put_metric_data") as caught:
        CloudWatch(client, "Test").put({"BacklogCount": 1})
    assert caught.value.dependency == "cloudwatch"
    assert "Check the network and the instance role." in caught.value.hint
