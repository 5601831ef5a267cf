"""The doctor: each misconfiguration is found, on real services, and its cure is said."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import yaml

from appliance import config as configuration
from appliance.adapters.ffmpeg.sandbox import self_test
from appliance.cli import check
from appliance.cli.check import fleet, host, services
from appliance.cli.check.finding import DOWN, OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.wiring.cage import cage
from tests.hosts import World
from tests.metadata import INSTANCE_ID, SPOT, SPOT_NOTICE, instance
from tests.shell import appliance
from tests.supervisor.test_fleet import make_group

DEAD = "127.0.0.1:9"
TIB = 1024**4


@dataclass
class Patient:
    """A configuration that is right, and what a test makes wrong in it or around it."""

    world: World
    directory: Path
    settings: dict[str, Any]

    def set(self, section: str, **values: Any) -> None:
        self.settings.setdefault(section, {}).update(values)

    def sql(self, statement: str) -> None:
        self.world.query(statement)

    def config(self) -> Config:
        path = self.directory / "appliance.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        path.chmod(self.settings.get("mode", 0o600))
        config = configuration.load(path, {})
        configuration.validate_for_run(config)
        return config

    @property
    def sqs(self) -> Any:
        return self.world.aws.client("sqs")


@pytest.fixture
def patient(world: World, settings: Path, tmp_path: Path) -> Patient:
    found = yaml.safe_load(settings.read_text())
    found["workspace"] = {
        "directory": str(tmp_path / "scratch"),
        "source_cache_bytes": "1MiB",
        "min_free_bytes": "1MiB",
    }
    found["pool"] = {"encoders": 1}
    found["database"] |= {"connect_timeout_seconds": 2}
    found["aws"] |= {"connect_timeout_seconds": 1}
    (tmp_path / "scratch").mkdir()
    return Patient(world, tmp_path, found)


def wrong(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.status != OK]


def test_a_healthy_host_has_nothing_but_ok(patient: Patient) -> None:
    config = patient.config()
    if not all(self_test(cage(config)).values()):
        pytest.skip("this kernel has not every layer of the cage")
    found = check.examine(config)
    assert wrong(found) == []
    assert {"ffmpeg", "sandbox", "scratch", "postgres", "redis", "sqs", "s3", "s3 sources"} <= {f.about for f in found}


# ---- the host --------------------------------------------------------------------------------------------------------


def readable_by_all(patient: Patient) -> Iterator[Finding]:
    config = patient.config()
    Path(config.path).chmod(0o644)
    return host.secrets(config)


def secret_readable_by_all(patient: Patient) -> Iterator[Finding]:
    secret = patient.directory / "dsn"
    secret.write_text(patient.world.dsn)
    secret.chmod(0o604)
    del patient.settings["database"]["dsn"]
    patient.set("database", dsn_file=str(secret))
    return host.secrets(patient.config())


def an_ffmpeg_without_x264(patient: Patient) -> Iterator[Finding]:
    fake = patient.directory / "ffmpeg"
    fake.write_text("#!/bin/sh\necho 'ffmpeg version 9.0 fake'\necho ' V..... mpeg4 MPEG-4'\n")
    fake.chmod(0o755)
    patient.set("ffmpeg", ffmpeg=str(fake))
    return host.ffmpeg(patient.config())


def seccomp_switched_off(patient: Patient) -> Iterator[Finding]:
    patient.set("sandbox", seccomp=False)
    return host.sandbox(patient.config())


def a_file_for_scratch(patient: Patient) -> Iterator[Finding]:
    (patient.directory / "file").touch()
    patient.set("workspace", directory=str(patient.directory / "file"))
    return host.scratch(patient.config())


def a_full_disk(patient: Patient) -> Iterator[Finding]:
    patient.set("workspace", min_free_bytes=900 * TIB)
    return host.scratch(patient.config())


def a_cache_larger_than_the_disk(patient: Patient) -> Iterator[Finding]:
    patient.set("workspace", source_cache_bytes=900 * TIB)
    return host.scratch(patient.config())


def more_encoders_than_memory(patient: Patient) -> Iterator[Finding]:
    patient.set("pool", encoders=500)
    return host.size(patient.config())


def a_directory_for_the_textfile_that_is_not_there(patient: Patient) -> Iterator[Finding]:
    patient.set("web", textfile="/no/such/directory/video.prom")
    return host.textfile(patient.config())


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


def database(patient: Patient) -> Iterator[Finding]:
    return services.postgres(Services(patient.config()))


def a_table_that_was_never_migrated(patient: Patient) -> Iterator[Finding]:
    patient.set("database", table="lecture")
    return database(patient)


def a_column_that_was_dropped(patient: Patient) -> Iterator[Finding]:
    patient.sql("ALTER TABLE video DROP COLUMN finished_token")
    return database(patient)


def a_migration_that_is_pending(patient: Patient) -> Iterator[Finding]:
    patient.sql("DELETE FROM video_migration WHERE left(name, 3) = '009'")
    return database(patient)


def an_index_on_leased_until(patient: Patient) -> Iterator[Finding]:
    patient.sql("CREATE INDEX of_the_platform ON video (leased_until)")
    return database(patient)


def a_role_without_rights(patient: Patient) -> Iterator[Finding]:
    patient.sql("DO $$ BEGIN CREATE ROLE visitor LOGIN PASSWORD 'visitor'; EXCEPTION WHEN duplicate_object THEN END $$")
    patient.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO visitor")
    patient.set("database", dsn=psycopg2.extensions.make_dsn(patient.world.dsn, user="visitor", password="visitor"))
    return database(patient)


def a_role_that_may_not_forget_plans(patient: Patient) -> Iterator[Finding]:
    found = a_role_without_rights(patient)
    patient.sql("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO visitor")
    return found


def a_standby(patient: Patient) -> Iterator[Finding]:
    with closing(psycopg2.connect(patient.world.dsn)) as connection:
        name = connection.get_dsn_parameters()["dbname"]
    patient.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    return database(patient)


def more_connections_than_the_server_has(patient: Patient) -> Iterator[Finding]:
    patient.set("pool", encoders=400)
    return database(patient)


def a_clock_that_is_an_hour_off(patient: Patient) -> Iterator[Finding]:
    return services.postgres(Services(patient.config()), clock=lambda: 0.0)


# ---- Redis, SQS, S3 --------------------------------------------------------------------------------------------------


def a_redis_that_is_nearly_full(patient: Patient) -> Iterator[Finding]:
    client = redis.Redis.from_url(patient.world.redis_url)
    client.config_set("maxmemory", 500_000)
    found = list(services.redis(Services(patient.config())))
    client.config_set("maxmemory", 0)
    client.close()
    return iter(found)


def a_fifo_queue(patient: Patient) -> Iterator[Finding]:
    url = patient.sqs.create_queue(QueueName="bell.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    patient.set("queue", url=url)
    return services.sqs(Services(patient.config()))


def a_queue_that_gives_up_soon(patient: Patient) -> Iterator[Finding]:
    dead = patient.sqs.create_queue(QueueName="dead")["QueueUrl"]
    attributes = patient.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    policy = json.dumps({"deadLetterTargetArn": attributes["QueueArn"], "maxReceiveCount": "2"})
    patient.sqs.set_queue_attributes(QueueUrl=patient.world.queue_url, Attributes={"RedrivePolicy": policy})
    patient.set("queue", fast_ack=False)
    return services.sqs(Services(patient.config()))


PLANTED: list[tuple[Callable[[Patient], Iterator[Finding]], str, str, str]] = [
    (readable_by_all, WARNING, "everybody may read it", "chmod o-r"),
    (secret_readable_by_all, WARNING, "everybody may read it", "chmod o-r"),
    (an_ffmpeg_without_x264, PROBLEM, "has no encoder libx264", "Leave ffmpeg.ffmpeg empty"),
    (seccomp_switched_off, WARNING, "runs without seccomp", "sandbox.seccomp to true"),
    (a_file_for_scratch, PROBLEM, "is no directory", "workspace.directory"),
    (a_full_disk, PROBLEM, "no work is taken", "workspace.min_free_bytes"),
    (a_cache_larger_than_the_disk, WARNING, "than the cache of sources may take", "workspace.source_cache_bytes"),
    (more_encoders_than_memory, WARNING, "asks for 500", "pool.encoders"),
    (a_directory_for_the_textfile_that_is_not_there, PROBLEM, "cannot be written to", "ReadWritePaths"),
    (a_table_that_was_never_migrated, PROBLEM, "There is no table lecture", "video-appliance migrate"),
    (a_column_that_was_dropped, PROBLEM, "no column finished_token", "video-appliance migrate"),
    (a_migration_that_is_pending, PROBLEM, "Not migrated yet: 009", "video-appliance migrate"),
    (an_index_on_leased_until, WARNING, "of_the_platform", "Drop of_the_platform (concurrently)"),
    (a_role_without_rights, PROBLEM, "may not INSERT, UPDATE on video", "GRANT INSERT, UPDATE"),
    (a_role_that_may_not_forget_plans, PROBLEM, "may not DELETE on video_plan", "GRANT DELETE ON video_plan"),
    (a_standby, PROBLEM, "takes no writes", "primary"),
    (more_connections_than_the_server_has, PROBLEM, "needs 804 connections", "max_connections"),
    (a_clock_that_is_an_hour_off, WARNING, "behind PostgreSQL's", "chrony"),
    (a_redis_that_is_nearly_full, WARNING, "nearly full", "memory"),
    (a_fifo_queue, PROBLEM, "FIFO", "standard queue"),
    (a_queue_that_gives_up_soon, WARNING, "after 2 deliveries", "maxReceiveCount"),
]


@pytest.mark.parametrize(
    ("plant", "status", "sentence", "cure"), PLANTED, ids=[planted[0].__name__ for planted in PLANTED]
)
def test_what_is_wrong_is_found_and_its_cure_is_said(
    patient: Patient, plant: Callable[[Patient], Iterator[Finding]], status: str, sentence: str, cure: str
) -> None:
    (found,) = wrong(list(plant(patient)))
    assert (found.status, sentence in found.sentence, cure in found.cure) == (status, True, True), found


AWAY: list[tuple[str, dict[str, dict[str, Any]], str, str]] = [
    ("postgres", {"database": {"dsn": f"postgresql://x:y@{DEAD}/z"}}, "postgres", "database.dsn"),
    ("redis", {"redis": {"url": f"redis://{DEAD}/0"}}, "redis", "redis.url"),
    ("a queue", {"queue": {"url": "http://127.0.0.1:1/000000000000/none"}}, "sqs", "queue.url"),
    ("a dead-letter queue", {"queue": {"dead_letter_url": "{endpoint}/000000000000/none"}}, "sqs", "queue.url"),
    ("a bucket", {"storage": {"bucket": "nobody-made-it"}}, "s3", "storage.bucket"),
    ("sources", {"storage": {"source_bucket": "nobody-made-it"}}, "s3 sources", "storage.bucket"),
    ("cloudwatch", {"cloudwatch": {"enabled": True}, "aws": {"endpoint_url": f"http://{DEAD}"}}, "cloudwatch", "role"),
    ("ec2", {"fleet": {"notices": True, "metadata_url": f"http://{DEAD}"}}, "ec2", "fleet.notices: false"),
    ("a group", {"fleet": {"group": "nobody-made-it"}}, "autoscaling", "fleet.group"),
    ("a password", {"redis": {"url": "redis://:wrong@{redis}/0"}}, "redis", "redis.url"),
]


@pytest.mark.parametrize(("changes", "about", "cure"), [away[1:] for away in AWAY], ids=[away[0] for away in AWAY])
def test_what_does_not_answer_is_named_and_hides_nothing_else(
    patient: Patient, changes: dict[str, dict[str, Any]], about: str, cure: str
) -> None:
    names = {
        "endpoint": patient.world.aws.endpoint_url,
        "redis": patient.world.redis_url.rpartition("@")[2].split("/")[0],
    }
    for section, values in changes.items():
        patient.set(section, **{k: v.format(**names) if isinstance(v, str) else v for k, v in values.items()})
    found = check.examine(replace(patient.config(), path=""))
    (down,) = [finding for finding in wrong(found) if finding.about == about]
    assert (down.status, cure in down.cure) == (DOWN, True), down
    assert "wrong" not in down.sentence
    assert {"ffmpeg", "scratch", "size"} <= {finding.about for finding in found if finding.status == OK}


def test_a_host_that_ec2_takes_away_and_a_group_that_may_choose_it_while_it_works_are_told(patient: Patient) -> None:
    patient.set("fleet", group=make_group(patient.world.aws))
    unprotected, group = fleet.group(Services(patient.config()))
    assert (unprotected.status, "fleet.notices: true" in unprotected.cure) == (WARNING, True)
    assert group.sentence.endswith("2 hosts wanted, 1 to 5; 0 protected")
    with instance() as here:
        patient.set("fleet", notices=True, metadata_url=here.url)
        (stays,) = fleet.ec2(patient.config())
        assert (stays.status, stays.sentence) == (OK, f"{INSTANCE_ID}, InService")
        here.says[SPOT] = SPOT_NOTICE
        assert [found.status for found in fleet.ec2(patient.config())] == [WARNING, OK]
        assert [found.status for found in fleet.group(Services(patient.config()))] == [OK]


def test_f41_a_port_that_somebody_else_holds_is_named_with_its_holder(patient: Patient) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        patient.set("web", port=other.getsockname()[1])
        (found,) = host.port(patient.config())
    assert f"(pid {os.getpid()})" in found.sentence
    assert "web.textfile" in found.cure


def test_the_exit_status_says_how_bad_it_is(patient: Patient) -> None:
    path = patient.config().path
    assert appliance("check", "--config", path).status == 0
    patient.set("workspace", directory="/dev/null")
    ran = appliance("check", "--config", patient.config().path)
    assert ran.status == 1
    assert "→ Move it away, or set workspace.directory." in ran.out
    assert ran.out.splitlines()[-1].startswith("1 problem")
    asked = appliance("check", "--config", path, "--json")
    assert {"about", "status", "sentence", "cure"} == set(asked.last["findings"][0])
    assert appliance("check", "--config", "/dev/null").status == 78


def test_a_probe_of_ours_that_breaks_is_one_line_among_the_others(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Config) -> Iterator[Finding]:
        raise ZeroDivisionError

    monkeypatch.setattr(host, "size", broken)
    found = check.examine(patient.config())
    (mistake,) = [finding for finding in found if finding.about == "size"]
    assert mistake.status == PROBLEM
    assert len(found) > 5
