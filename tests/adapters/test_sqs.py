"""The doorbell on moto's SQS, over HTTP."""

from __future__ import annotations

import json
import uuid

import pytest

from appliance.adapters import aws as aws_adapter
from appliance.adapters.sqs import Depth, Doorbell, Received
from appliance.domain.errors import Unavailable
from appliance.domain.message import Message, parse


@pytest.fixture
def client(aws):
    client = aws_adapter.client("sqs", region=aws.region, endpoint_url=aws.endpoint_url)
    yield client
    client.close()


@pytest.fixture
def doorbell(client, queue_url):
    return Doorbell(client, queue_url)


def test_a_ring_is_heard_as_the_message_it_was(doorbell):
    message = Message(7, 3, "a.mp4", "academy", "2026-01-01T00:00:00Z", 2)
    doorbell.ring(message)
    received = doorbell.receive(0)
    assert parse(received.body) == message
    assert received.receive_count == 1
    assert received.request_id
    assert received.receipt_handle_suffix == received.receipt_handle[-12:]
    assert len(received.receipt_handle_suffix) == 12


def test_silence_is_none(doorbell):
    assert doorbell.receive(0.1) is None


def test_one_message_per_receive(doorbell):
    for video_id in (1, 2):
        doorbell.ring(Message(video_id))
    doorbell.receive(0)
    assert doorbell.depth() == Depth(visible=1, inflight=1)


def test_a_deleted_message_is_gone(doorbell):
    doorbell.ring(Message(7))
    doorbell.delete(doorbell.receive(0))
    assert doorbell.depth() == Depth(0, 0)


def test_a_message_made_visible_comes_again_with_its_count(doorbell):
    doorbell.ring(Message(7))
    doorbell.visibility(doorbell.receive(0), 0)
    assert doorbell.receive(0).receive_count == 2


def test_a_hidden_message_is_not_seen(doorbell):
    doorbell.ring(Message(7))
    doorbell.visibility(doorbell.receive(0), 900)
    assert doorbell.receive(0) is None
    assert doorbell.depth() == Depth(visible=0, inflight=1)


def test_f09_an_unreadable_body_is_kept_with_the_reason(client, aws, queue_url):
    dead_letter_url = aws.make_queue(f"dead-{uuid.uuid4().hex}")
    doorbell = Doorbell(client, queue_url, dead_letter_url=dead_letter_url)
    assert doorbell.dead_letter(Received("not json", "handle", "request"), "The message is not JSON.")
    answer = client.receive_message(QueueUrl=dead_letter_url, MessageAttributeNames=["All"])
    assert answer["Messages"][0]["Body"] == "not json"
    assert answer["Messages"][0]["MessageAttributes"]["reason"]["StringValue"] == "The message is not JSON."


def test_f09_without_a_dead_letter_queue_nothing_is_sent(doorbell):
    assert not doorbell.dead_letter(Received("not json", "handle", "request"), "why")


def test_f10_a_missing_queue_is_unavailable_and_says_what_to_check(client, queue_url):
    with pytest.raises(Unavailable, match="receive_message") as raised:
        Doorbell(client, queue_url + "-missing").receive(0)
    assert raised.value.dependency == "sqs"
    assert "no such queue" in raised.value.hint


def test_f10_a_dead_sqs_is_unavailable(aws):
    client = aws_adapter.client(
        "sqs", region=aws.region, endpoint_url="http://127.0.0.1:1", connect_timeout_seconds=0.2
    )
    with pytest.raises(Unavailable) as raised:
        Doorbell(client, "http://127.0.0.1:1/queue").ring(Message(7))
    assert "network" in raised.value.hint


def test_f10_refused_credentials_name_the_policy(client, doorbell, monkeypatch):
    def refuse(**_):
        raise client.exceptions.ClientError({"Error": {"Code": "AccessDenied"}}, "SendMessage")

    monkeypatch.setattr(client, "send_message", refuse)
    with pytest.raises(Unavailable) as raised:
        doorbell.ring(Message(7))
    assert "iam-policy" in raised.value.hint


def test_the_body_is_the_contract(doorbell):
    doorbell.ring(Message(7, 3, "a.mp4"))
    assert json.loads(doorbell.receive(0).body) == {
        "video_id": 7,
        "tenant_id": 3,
        "file_key": "a.mp4",
        "tenant_code": "",
        "created_at": None,
        "attempt": 1,
    }
