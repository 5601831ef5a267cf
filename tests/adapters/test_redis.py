"""Telemetry on a real Redis."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest
import redis
from structlog.testing import capture_logs

from appliance.adapters.redis import Telemetry, heartbeat_key, progress_key
from appliance.domain.errors import Unavailable
from appliance.domain.video import Lease, Worker


@pytest.fixture
def lease():
    return Lease(7, 3, "a.mp4", uuid.uuid4(), 5, Worker("host-a", "host-a:0"))


@pytest.fixture
def raw(redis_url):
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def telemetry(redis_url):
    telemetry = Telemetry(redis_url, timeout_seconds=0.5)
    yield telemetry
    telemetry.close()


def test_the_heartbeat_names_its_lease_and_ends_by_itself(telemetry, raw, lease):
    telemetry.beat(lease)
    value = json.loads(raw.get("tenant:3:video:7:heartbeat"))
    assert value == {"token": str(lease.token), "epoch": 5, "host": "host-a", "worker": "host-a:0"}
    assert 0 < raw.ttl("tenant:3:video:7:heartbeat") <= 60


def test_every_beat_is_one_set_with_its_end_and_never_an_expire(telemetry, raw, lease):
    with raw.monitor() as monitor:
        telemetry.beat(lease)
        raw.echo("end of the listening")
        commands = []
        for heard in monitor.listen():
            if "end of the listening" in heard["command"]:
                break
            commands.append(heard["command"])
    written = [command for command in commands if "heartbeat" in command]
    assert len(written) == 1
    assert written[0].startswith("SET tenant:3:video:7:heartbeat")
    assert written[0].endswith("EX 60")


def test_f16_only_the_own_heartbeat_is_deleted(telemetry, raw, lease):
    other = replace(lease, token=uuid.uuid4(), epoch=6)
    telemetry.beat(other)
    telemetry.end(lease)
    assert json.loads(raw.get(heartbeat_key(3, 7)))["token"] == str(other.token)
    telemetry.end(other)
    assert raw.get(heartbeat_key(3, 7)) is None


def test_progress_is_json_with_redis_own_time(telemetry, raw, lease):
    seconds, _ = raw.time()
    telemetry.progress(lease, {"percent": 42.0, "step": "encode"})
    fields = json.loads(raw.get(progress_key(3, 7)))
    assert fields["percent"] == 42.0
    assert seconds - 1 <= fields["updated_at"] <= seconds + 10
    assert 3590 <= raw.ttl("tenant:3:video:7:progress") <= 3600
    assert telemetry.read_progress(3, 7) == fields


@pytest.mark.parametrize("value", [None, "not json", "[1]"])
def test_progress_that_is_none_of_ours_reads_as_none(telemetry, raw, value):
    if value is not None:
        raw.set(progress_key(3, 7), value)
    assert telemetry.read_progress(3, 7) is None


def test_a_video_without_a_tenant_is_passed_over(telemetry, raw, lease):
    nobodys = replace(lease, tenant_id=None)
    telemetry.beat(nobodys)
    telemetry.progress(nobodys, {})
    telemetry.end(nobodys)
    assert raw.keys("*") == []
    assert telemetry.answers


def test_heartbeats_come_raw_and_in_order(telemetry, raw, lease):
    telemetry.beat(lease)
    raw.set(heartbeat_key(1, 1), "1")
    found = telemetry.heartbeats([(1, 1), (2, 2), (3, 7)])
    assert found[:2] == ["1", None]
    assert json.loads(found[2])["token"] == str(lease.token)
    assert telemetry.heartbeats([]) == []


def test_up_seconds_is_the_servers_age(telemetry):
    assert telemetry.up_seconds() >= 0


def test_f22_an_outage_never_raises_is_counted_and_logged_once_and_ends_by_itself(redis_server, lease):
    errors = []
    telemetry = Telemetry(redis_server.url, timeout_seconds=0.2, on_error=lambda: errors.append(1))
    telemetry.beat(lease)
    redis_server.stop()
    with capture_logs() as lines:
        for _ in range(3):
            telemetry.beat(lease)
        telemetry.end(lease)
        assert not telemetry.answers
        redis_server.start()
        telemetry.beat(lease)
    assert [line["event"] for line in lines] == ["DEPENDENCY_DOWN", "DEPENDENCY_BACK"]
    assert len(errors) == 4
    assert telemetry.answers
    assert telemetry.heartbeats([(3, 7)])[0] is not None
    telemetry.close()


def test_f22_a_demoted_redis_is_left_for_a_fresh_connection(telemetry, raw, lease):
    telemetry.beat(lease)
    before = {client["id"] for client in raw.client_list()}
    raw.replicaof("127.0.0.1", 1)
    try:
        telemetry.beat(lease)  # READONLY
        assert not telemetry.answers
    finally:
        raw.replicaof("NO", "ONE")
    telemetry.beat(lease)
    assert telemetry.answers
    mine = {client["id"] for client in raw.client_list()} - before
    assert mine, "the connection to the demoted server is still in use"


def test_f22_progress_leaves_a_dead_redis_alone_for_a_while(redis_server, lease, monkeypatch):
    telemetry = Telemetry(redis_server.url, timeout_seconds=0.2)
    redis_server.stop()
    calls = []
    telemetry.progress(lease, {"percent": 1})
    monkeypatch.setattr(telemetry, "_write", calls.append)
    telemetry.progress(lease, {"percent": 2})
    assert calls == []
    telemetry._paused_until = 0.0
    telemetry.progress(lease, {"percent": 3})
    assert len(calls) == 1
    redis_server.start()
    telemetry.close()


def test_f22_who_reads_is_told(redis_server, lease):
    telemetry = Telemetry(redis_server.url, timeout_seconds=0.2)
    redis_server.stop()
    for read in (telemetry.up_seconds, lambda: telemetry.heartbeats([(3, 7)]), lambda: telemetry.read_progress(3, 7)):
        with pytest.raises(Unavailable) as raised:
            read()
        assert raised.value.dependency == "redis"
    redis_server.start()
    assert telemetry.heartbeats([(3, 7)]) == [None]
    telemetry.close()
