"""config/iam-policy.json against every call that the appliance makes: all are allowed, and nothing else is."""

from __future__ import annotations

import ast
import copy
import fnmatch
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from appliance.adapters import aws as factory
from appliance.adapters import s3 as s3_adapter
from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.s3 import S3
from appliance.adapters.sqs import Doorbell
from appliance.adapters.ssm import Parameter
from appliance.domain.errors import SourceRejected, Unavailable
from appliance.domain.message import Message
from tests.metadata import INSTANCE_ID
from tests.supervisor.test_fleet import make_group

ADAPTERS = Path(__file__).parents[1] / "appliance/adapters"
POLICY = Path(__file__).parents[1] / "config/iam-policy.json"
NAMESPACE = "Academy/Workers"
#: boto3's own compositions, and what they are made of.
COMPOSED = {"upload_file": {"create_multipart_upload", "upload_part", "complete_multipart_upload"}}
#: Calls whose IAM action has another name ("Required permissions for Amazon S3 API operations").
ACTIONS = {
    **dict.fromkeys(("HeadObject", "GetObject"), "s3:GetObject"),
    **dict.fromkeys(("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"), "s3:PutObject"),
    **dict.fromkeys(("ListObjectsV2", "HeadBucket"), "s3:ListBucket"),
    "DeleteObjects": "s3:DeleteObject",
}


@dataclass(frozen=True)
class Call:
    """One request as IAM judges it."""

    operation: str
    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


@dataclass
class Account:
    """Clients whose calls are written down."""

    aws: Any
    uploads: str
    streams: str
    queue: str
    dead: str
    group: str
    calls: set[Call] = field(default_factory=set)

    def client(self, service: str) -> Any:
        client = factory.client(service, region=self.aws.region, endpoint_url=self.aws.endpoint_url, tries=1)
        client.meta.events.register("provide-client-params", self._note)
        return client

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        for resource, context in self._resources(service, params):
            action = ACTIONS.get(model.name, f"{service}:{model.name}")
            self.calls.add(Call(model.name, action, resource, context))

    def _resources(self, service: str, params: dict[str, Any]) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        region, account = self.aws.region, "123456789012"
        if service == "s3":
            bucket = f"arn:aws:s3:::{params['Bucket']}"
            keys = [item["Key"] for item in params["Delete"]["Objects"]] if "Delete" in params else [params.get("Key")]
            yield from ((f"{bucket}/{key}" if key else bucket, ()) for key in keys)
        elif service == "sqs":
            yield f"arn:aws:sqs:{region}:{account}:{urlsplit(params['QueueUrl']).path.rpartition('/')[2]}", ()
        elif service == "cloudwatch":
            yield "*", (("cloudwatch:namespace", params["Namespace"]),) if "Namespace" in params else ()
        elif service == "ssm":
            yield f"arn:aws:ssm:{region}:{account}:parameter{params['Name']}", ()
        elif "AutoScalingGroupName" in params:
            name = params["AutoScalingGroupName"]
            yield f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:some-id:autoScalingGroupName/{name}", ()
        else:
            yield "*", ()


@pytest.fixture
def account(aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Account:
    """Everything that the adapters can ask was asked, of moto's AWS."""
    dead = aws.make_queue(f"dead-{uuid.uuid4().hex}")
    queue = aws.make_queue(f"bell-{uuid.uuid4().hex}")
    streams = aws.make_bucket(f"streams-{uuid.uuid4().hex}")
    found = Account(aws, bucket, streams, queue, dead, make_group(aws))
    aws.client("s3").put_object(Bucket=bucket, Key="sources/lecture.mp4", Body=b"x" * 1000)
    _storage(found, tmp_path, monkeypatch)
    _queue(found)
    _fleet(found)
    return found


def _storage(account: Account, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = account.client("s3")
    uploads, streams = S3(client, account.uploads), S3(client, account.streams)
    etag = uploads.head("sources/lecture.mp4").etag
    uploads.download("sources/lecture.mp4", directory / "source", if_match=etag, check=lambda: None)
    with suppress(SourceRejected):
        uploads.head("sources/nobody.mp4")  # asks for the bucket as well
    home, kind = "hls/7", {"content_type": "video/mp4", "cache_control": "no-store"}
    streams.put_bytes(f"{home}/a", b"a", **kind)
    streams.read(f"{home}/a")
    streams.sizes(home)
    streams.older_than(home, 0.0)
    streams.delete([f"{home}/a"])
    monkeypatch.setattr(s3_adapter, "MULTIPART_BYTES", 6 * s3_adapter.MIB)
    monkeypatch.setattr(s3_adapter, "PART_BYTES", 5 * s3_adapter.MIB)
    large = directory / "large"
    large.write_bytes(bytes(7 * s3_adapter.MIB))
    streams.put_file(f"{home}/large", large, **kind)
    # an upload that breaks off is taken back
    refuse = ClientError({"Error": {"Code": "InternalError"}}, "UploadPart")

    def broken(**_: Any) -> None:
        raise refuse

    client.meta.events.register("before-call.s3.UploadPart", broken)
    with suppress(Unavailable):
        streams.put_file(f"{home}/broken", large, **kind)


def _queue(account: Account) -> None:
    doorbell = Doorbell(account.client("sqs"), account.queue, dead_letter_url=account.dead)
    doorbell.ring(Message(7, 1, "sources/lecture.mp4"))
    received = doorbell.receive(1)
    assert received is not None
    doorbell.visibility(received, 30)
    doorbell.dead_letter(received, "a test")
    doorbell.delete(received)
    doorbell.depth()
    doorbell.settings()
    doorbell.dead_letter_settings()


def _fleet(account: Account) -> None:
    cloudwatch = CloudWatch(account.client("cloudwatch"), NAMESPACE)
    cloudwatch.put({"BacklogCount": 1})
    cloudwatch.get("BacklogCount")
    note = Parameter(account.client("ssm"), f"/video-appliance/{uuid.uuid4().hex}")
    note.put("zero")
    note.age_seconds()
    note.delete()
    group = ScalingGroup(account.client("autoscaling"), account.group)
    group.want(group.look().maximum)
    # moto knows no such host, and not the last two calls
    for tell in (partial(group.protect, on=True), partial(group.wait_for, "hook"), partial(group.complete, "hook")):
        with suppress(Unavailable):
            tell(INSTANCE_ID)


def policy(account: Account) -> list[dict[str, Any]]:
    """The statements, with one's own names in place of those in capitals."""
    text = POLICY.read_text()
    names = {
        "UPLOADS": account.uploads,
        "STREAMS": account.streams,
        "DEAD-LETTERS": urlsplit(account.dead).path.rpartition("/")[2],
        "QUEUE": urlsplit(account.queue).path.rpartition("/")[2],
        "GROUP": account.group,
        "REGION": account.aws.region,
        "ACCOUNT": "123456789012",
    }
    for name, value in names.items():
        text = re.sub(rf"(?<=[:/]){name}(?=[\"/:])", value, text)
    found: list[dict[str, Any]] = json.loads(text)["Statement"]
    return found


def allows(statements: list[dict[str, Any]], call: Call) -> bool:
    return any(_permits(statement, call) for statement in statements)


def _permits(statement: dict[str, Any], call: Call) -> bool:
    """IAM's rules, as far as this policy uses them: Allow, exact actions, `*` in resources, StringEquals."""
    resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    conditions = statement.get("Condition", {}).get("StringEquals", {})
    return (
        call.action in statement["Action"]
        and any(
            fnmatch.fnmatchcase(call.resource, one)
            for one in ([resources] if isinstance(resources, str) else resources)
        )
        and all(dict(call.context).get(name) == value for name, value in conditions.items())
    )


def test_every_call_in_the_code_was_made(account: Account) -> None:
    """So that a call that is written tomorrow cannot be forgotten here."""
    made = {re.sub(r"(?<!^)(?=[A-Z])", "_", call.operation).lower() for call in account.calls}
    written = set()
    texts = (path.read_text() for path in ADAPTERS.glob("*.py"))
    for text in (text for text in texts if "botocore.exceptions" in text):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                written |= _names(node)
    written = {part for name in written for part in COMPOSED.get(name, {name})}
    assert {name.replace("_v2", "v2") for name in written} <= {name.replace("_v2", "v2") for name in made}


def _names(node: ast.Call) -> set[str]:
    assert isinstance(node.func, ast.Attribute)
    ours = isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "_client"
    first = node.args[0] if node.args else None
    if node.func.attr in ("_call", "get_paginator") and isinstance(first, ast.Constant):
        return {str(first.value)}
    return {node.func.attr} if ours and node.func.attr not in ("get_paginator", "meta") else set()


def test_the_role_may_make_every_call(account: Account) -> None:
    statements = policy(account)
    assert [call for call in account.calls if not allows(statements, call)] == []


def test_without_any_one_action_some_call_is_refused_so_none_is_too_many(account: Account) -> None:
    statements = policy(account)
    for number, statement in enumerate(statements):
        for action in statement["Action"]:
            less = copy.deepcopy(statements)
            less[number]["Action"].remove(action)
            assert [call for call in account.calls if not allows(less, call)], (statement["Sid"], action)


def test_nothing_is_published_into_somebody_elses_namespace(account: Account) -> None:
    other = Call("PutMetricData", "cloudwatch:PutMetricData", "*", (("cloudwatch:namespace", "Somebody/Else"),))
    assert not allows(policy(account), other)


@pytest.mark.parametrize("action", ["s3:DeleteObject", "s3:PutObject"])
def test_an_upload_is_never_written_or_deleted(account: Account, action: str) -> None:
    assert not allows(policy(account), Call("x", action, f"arn:aws:s3:::{account.uploads}/sources/lecture.mp4"))


def called(account: Account, client: Any, operation: str) -> None:
    """The adapter's call that makes this request, of an account that was asked everything already."""
    made = {
        "SetDesiredCapacity": lambda: ScalingGroup(client, account.group).want(2),
        "SetInstanceProtection": lambda: ScalingGroup(client, account.group).protect(INSTANCE_ID, on=True),
        "RecordLifecycleActionHeartbeat": lambda: ScalingGroup(client, account.group).wait_for("hook", INSTANCE_ID),
        "CompleteLifecycleAction": lambda: ScalingGroup(client, account.group).complete("hook", INSTANCE_ID),
        "DescribeAutoScalingGroups": lambda: ScalingGroup(client, account.group).look(),
        "PutMetricData": lambda: CloudWatch(client, NAMESPACE).put({"BacklogCount": 1}),
        "GetMetricData": lambda: CloudWatch(client, NAMESPACE).get("BacklogCount"),
        "GetParameter": lambda: Parameter(client, "/video-appliance/x").age_seconds(),
        "PutParameter": lambda: Parameter(client, "/video-appliance/x").put("zero"),
        "DeleteParameter": lambda: Parameter(client, "/video-appliance/x").delete(),
    }
    made[operation]()


def test_f30_whichever_action_of_the_fleet_is_taken_away_it_is_named_and_nothing_else_is_raised(
    account: Account,
) -> None:
    statements = policy(account)
    for number, statement in enumerate(statements):
        for action in statement["Action"]:
            service, _, operation = action.partition(":")
            if service not in ("autoscaling", "cloudwatch", "ssm"):
                continue
            less = copy.deepcopy(statements)
            less[number]["Action"].remove(action)
            client = account.client(service)
            _enforce(account, client, less)
            with pytest.raises(Unavailable, match="AccessDenied") as caught:
                called(account, client, operation)
            assert (caught.value.dependency, action in caught.value.hint) == (service, True), caught.value.hint


def _enforce(account: Account, client: Any, statements: list[dict[str, Any]]) -> None:
    """The client's requests are refused as IAM does, by these statements."""
    service = client.meta.service_model.service_name

    def judge(params: dict[str, Any], model: Any, **_: Any) -> None:
        for resource, context in account._resources(service, params):
            if not allows(statements, Call(model.name, f"{service}:{model.name}", resource, context)):
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no policy allows it"}}, model.name)

    client.meta.events.register("provide-client-params", judge)
