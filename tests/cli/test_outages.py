"""Every verb while PostgreSQL, Redis or AWS is away: a sentence and a cure, the right status, and never a wait."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.__main__ import VERBS
from appliance.cli.services import PATIENCE_SECONDS, TRIES, Services
from appliance.config import Aws, Config, Queue, Storage
from appliance.local.aws import CREDENTIALS
from appliance.local.port import free_ports
from tests.hosts import World
from tests.shell import Ran, appliance

#: What is silent costs this test so long, not what a person would wait.
SECONDS = 0.2
IMPATIENT: dict[str, dict[str, Any]] = {
    "database": {"connect_timeout_seconds": SECONDS},
    "redis": {"timeout_seconds": SECONDS},
    "aws": {"connect_timeout_seconds": SECONDS, "read_timeout_seconds": SECONDS},
    "queue": {},
}
ELSEWHERE = {
    "postgres": {"database": {"dsn": "postgresql://somebody:secret@{}/video"}},
    "redis": {"redis": {"url": "redis://{}/0"}},
    "aws": {"aws": {"endpoint_url": "http://{}"}, "queue": {"url": "http://{}/000000000000/videos"}},
}
#: Need none of them, or bring their own; `run` is a story (test_story_outage).
ALONE = {"run", "encode", "verify", "demo", "completion", "reload"}


@dataclass(frozen=True)
class Case:
    """A command line, and its exit status while that is away. Videos: see `videos`."""

    words: str
    postgres: int
    redis: int
    aws: int


CASES = (
    Case("check", 69, 69, 69),
    Case("status", 69, 69, 69),
    Case("status --cloudwatch", 69, 69, 69),
    # Of a host that runs no supervisor: one answer, whoever else is away.
    Case("top --once", 69, 69, 69),
    Case("drain", 1, 1, 1),
    Case("submit {file}", 69, 0, 69),
    Case("submit s3://sources/a.mp4", 69, 0, 69),
    Case("submit 1", 69, 0, 0),
    Case("submit 2", 69, 0, 69),
    Case("list", 69, 0, 0),
    Case("show 1", 69, 0, 0),
    Case("retry 1 3", 69, 0, 0),
    Case("cancel 1", 69, 0, 0),
    Case("reconcile", 69, 69, 69),
    Case("reconcile --dry-run", 69, 69, 0),
    Case("migrate", 69, 0, 0),
    Case("config show", 0, 0, 0),
    Case("config validate", 0, 0, 0),
    Case("autoscaling --group hosts", 0, 0, 0),
    Case("version", 0, 0, 0),
)


@contextmanager
def gone(how: str) -> Iterator[int]:
    """A port on which nobody listens, or one that takes connections and says nothing."""
    if how == "closed":
        yield next(free_ports())
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.fixture(params=["closed", "silent"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[str]:
    with gone(request.param) as port:
        yield f"127.0.0.1:{port}"


def without(settings: Path, away: str, nowhere: str) -> None:
    """Point one of them there, and let nobody wait."""
    changed = yaml.safe_load(settings.read_text())
    for section, values in ELSEWHERE[away].items():
        changed[section] |= {name: value.format(nowhere) for name, value in values.items()}
        changed[section] |= IMPATIENT[section]
    settings.write_text(yaml.safe_dump(changed))


def videos(world: World) -> None:
    """1 waits, 2 is PENDING, 3 FAILED; nobody else is there."""
    world.query("TRUNCATE video RESTART IDENTITY")
    world.query(
        "INSERT INTO video (status, file_key, tenant_id, next_ring_at) SELECT s, 'sources/a.mp4', 1, now()"
        " FROM unnest(ARRAY['UPLOADED', 'PENDING', 'FAILED']) AS s"
    )


@pytest.fixture
def recording(world: World, tmp_path: Path) -> Path:
    """A file; its like lies in the bucket as s3://sources/a.mp4."""
    world.aws.client("s3").put_object(Bucket=world.bucket, Key="sources/a.mp4", Body=b"x")
    (tmp_path / "lecture.mp4").write_bytes(b"x")
    return tmp_path / "lecture.mp4"


def verdict(ran: Ran) -> int | str:
    """The exit status; what it said instead where that is a riddle: an end without a cure, a trace, a password."""
    told = ran.err + ran.out
    riddle = "Traceback" in told or "secret" in told or (ran.status and "→" not in told)
    return f"{ran.status}: {told}" if riddle else ran.status


@pytest.mark.parametrize("away", ELSEWHERE)
def test_what_is_away_ends_no_verb_but_with_a_sentence_and_a_cure(
    world: World, settings: Path, recording: Path, nowhere: str, away: str
) -> None:
    without(settings, away, nowhere)
    found = {}
    for case in CASES:
        videos(world)
        found[case.words] = verdict(appliance(*case.words.format(file=recording).split(), "--config", settings))
    assert found == {case.words: getattr(case, away) for case in CASES}


def test_a_ring_that_nobody_hears_is_said_once_and_costs_nothing(world: World, settings: Path, recording: Path) -> None:
    videos(world)
    changed = yaml.safe_load(settings.read_text())
    changed["queue"]["url"] = "http://127.0.0.1:9/000000000000/videos"
    settings.write_text(yaml.safe_dump(changed))
    ran = appliance("submit", recording, "--json", "--config", settings)
    assert (ran.status, ran.last["rung"], world.row(ran.last["video_id"])["status"]) == (0, False, "UPLOADED")
    again = appliance("retry", 1, 3, "--config", settings)
    assert (again.status, again.out.count("Video "), again.err.count("→")) == (0, 2, 1)


def test_without_an_account_the_cure_is_a_role(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    found = appliance("status", "--json", "--config", settings).last["dependencies"]
    assert [name for name, answer in found.items() if "instance role" in answer["hint"]] == ["sqs", "s3"]


def test_every_verb_was_tried() -> None:
    assert {case.words.split()[0] for case in CASES} == {*VERBS} - ALONE


def test_with_the_settings_as_they_come_nobody_waits_long_for_aws() -> None:
    services = Services(Config(aws=Aws(region="eu-central-1"), storage=Storage("streams"), queue=Queue("http://q/1")))
    for client in (services.aws("s3"), services.doorbell._client, services.sources._client):
        assert max(client.meta.config.read_timeout, client.meta.config.connect_timeout) <= PATIENCE_SECONDS
        assert client.meta.config.retries["total_max_attempts"] <= TRIES
    assert services.uploads._client.meta.config.read_timeout == Aws().read_timeout_seconds
