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
from appliance.cli.check import database as asked_of_postgres
from appliance.cli.check import fleet, host, services
from appliance.cli.check.finding import DOWN, OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.wiring.cage import cage
from tests.gate import Gate
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
    found = Services(patient.config())
    questions = (
        asked_of_postgres.postgres,
        asked_of_postgres.tables,
        asked_of_postgres.schema,
        asked_of_postgres.indexes,
    )
    return (finding for question in questions for finding in question(found))


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


def a_newer_release_s_migration(patient: Patient) -> Iterator[Finding]:
    patient.sql("INSERT INTO video_migration (name) VALUES ('999_of_tomorrow.sql')")
    return database(patient)


def an_index_of_ours_that_was_dropped(patient: Patient) -> Iterator[Finding]:
    patient.sql("DROP INDEX video_due")
    return database(patient)


def an_index_of_ours_whose_build_broke_off(patient: Patient) -> Iterator[Finding]:
    patient.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'video_ring'::regclass")
    return database(patient)


def a_short_leased_by(patient: Patient) -> Iterator[Finding]:
    patient.sql("ALTER TABLE video ALTER COLUMN leased_by TYPE varchar(8)")
    return database(patient)


def a_lease_without_a_time_zone(patient: Patient) -> Iterator[Finding]:
    patient.sql("ALTER TABLE video ALTER COLUMN leased_until TYPE timestamp")
    return database(patient)


def a_creation_without_a_time_zone(patient: Patient) -> Iterator[Finding]:
    patient.sql("ALTER TABLE video ALTER COLUMN created_at TYPE timestamp")
    return database(patient)


def a_standby(patient: Patient) -> Iterator[Finding]:
    with closing(psycopg2.connect(patient.world.dsn)) as connection:
        name = connection.get_dsn_parameters()["dbname"]
    patient.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    return database(patient)


def more_connections_than_the_server_has(patient: Patient) -> Iterator[Finding]:
    patient.set("pool", encoders=400)
    return database(patient)


def a_clock_that_is_an_hour_off(patient: Patient) -> Iterator[Finding]:
    return asked_of_postgres.postgres(Services(patient.config()), clock=lambda: 0.0)


# ---- Redis, SQS, S3 --------------------------------------------------------------------------------------------------


def configured_redis(patient: Patient, **settings: object) -> Iterator[Finding]:
    client = redis.Redis.from_url(patient.world.redis_url)
    before = {name: client.config_get(name)[name] for name in settings}
    for name, value in settings.items():
        client.config_set(name, str(value))
    found = list(services.redis(Services(patient.config())))
    for name, value in before.items():
        client.config_set(name, value)
    client.close()
    return iter(found)


def a_redis_that_is_nearly_full(patient: Patient) -> Iterator[Finding]:
    return configured_redis(patient, maxmemory=500_000)


def a_redis_that_drops_progress(patient: Patient) -> Iterator[Finding]:
    return configured_redis(patient, **{"maxmemory": TIB, "maxmemory-policy": "allkeys-lru"})


def a_redis_that_drops_heartbeats_that_decide(patient: Patient) -> Iterator[Finding]:
    patient.set("reconcile", heartbeat="strict")
    return configured_redis(patient, **{"maxmemory": TIB, "maxmemory-policy": "volatile-ttl"})


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


def a_queue_that_is_late(patient: Patient) -> Iterator[Finding]:
    patient.sqs.set_queue_attributes(QueueUrl=patient.world.queue_url, Attributes={"DelaySeconds": "30"})
    return services.sqs(Services(patient.config()))


def a_queue_that_shows_a_message_again_at_once(patient: Patient) -> Iterator[Finding]:
    patient.sqs.set_queue_attributes(QueueUrl=patient.world.queue_url, Attributes={"VisibilityTimeout": "5"})
    patient.set("queue", fast_ack=False)
    return services.sqs(Services(patient.config()))


def behind_a_gate(
    patient: Patient, ask: Callable[[Services], Iterator[Finding]], *refused: str, code: str = "AccessDenied"
) -> Iterator[Finding]:
    """What is found where AWS refuses every call whose path ends with one of these."""
    with Gate(patient.world.aws, lambda _, path: (403, code) if path.endswith(refused) else None) as gate:
        patient.set("aws", endpoint_url=gate.endpoint_url)
        return iter(list(ask(Services(patient.config()))))


def a_role_that_may_not_ring(patient: Patient) -> Iterator[Finding]:
    return behind_a_gate(patient, services.sqs, ".SendMessage")


def a_role_that_may_not_delete_or_hide(patient: Patient) -> Iterator[Finding]:
    patient.set("queue", fast_ack=False)
    return behind_a_gate(patient, services.sqs, ".DeleteMessage", ".ChangeMessageVisibility")


def a_role_that_may_not_publish(patient: Patient) -> Iterator[Finding]:
    patient.set("cloudwatch", enabled=True)
    return behind_a_gate(patient, fleet.cloudwatch, "PutMetricData")


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
    (a_newer_release_s_migration, WARNING, "does not know 999_of_tomorrow.sql", "Update this host"),
    (an_index_of_ours_that_was_dropped, WARNING, "no index video_due", "Strike 006_index_due.sql out of"),
    (an_index_of_ours_whose_build_broke_off, WARNING, "video_ring is invalid", "REINDEX INDEX CONCURRENTLY video_ring"),
    (a_short_leased_by, PROBLEM, "video.leased_by holds 8 characters", "a varchar(64)"),
    (a_lease_without_a_time_zone, PROBLEM, "video.leased_until has no time zone", "a timestamptz"),
    (a_creation_without_a_time_zone, WARNING, "video.created_at has no time zone", "a timestamptz"),
    (a_standby, PROBLEM, "takes no writes", "primary"),
    (more_connections_than_the_server_has, PROBLEM, "needs 804 connections", "max_connections"),
    (a_clock_that_is_an_hour_off, WARNING, "behind PostgreSQL's", "chrony"),
    (a_redis_that_is_nearly_full, WARNING, "nearly full", "memory"),
    (a_redis_that_drops_progress, WARNING, "policy is allkeys-lru", "noeviction"),
    (a_redis_that_drops_heartbeats_that_decide, PROBLEM, "living encoders are taken back", "noeviction"),
    (a_queue_that_is_late, WARNING, "30 s late", "DelaySeconds"),
    (a_queue_that_shows_a_message_again_at_once, WARNING, "again after 5 s", "VisibilityTimeout"),
    (a_role_that_may_not_ring, PROBLEM, "may not sqs:SendMessage", "iam-policy.json"),
    (a_role_that_may_not_delete_or_hide, PROBLEM, "sqs:DeleteMessage, sqs:ChangeMessageVisibility", "iam-policy.json"),
    (a_role_that_may_not_publish, PROBLEM, "may not cloudwatch:PutMetricData", "iam-policy.json"),
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


AWAY: list[tuple[str, dict[str, dict[str, Any]], str, str, str]] = [
    ("postgres", {"database": {"dsn": f"postgresql://x:y@{DEAD}/z"}}, "postgres", "database.dsn", DOWN),
    ("redis", {"redis": {"url": f"redis://{DEAD}/0"}}, "redis", "redis.url", DOWN),
    ("a queue", {"queue": {"url": "http://127.0.0.1:1/000000000000/none"}}, "sqs", "queue.url", PROBLEM),
    (
        "a dead-letter queue",
        {"queue": {"dead_letter_url": "{endpoint}/000000000000/none"}},
        "sqs",
        "queue.dead_letter_url",
        PROBLEM,
    ),
    ("a bucket", {"storage": {"bucket": "nobody-made-it"}}, "s3", "storage.bucket", PROBLEM),
    ("sources", {"storage": {"source_bucket": "nobody-made-it"}}, "s3 sources", "storage.bucket", PROBLEM),
    (
        "cloudwatch",
        {"cloudwatch": {"enabled": True}, "aws": {"endpoint_url": f"http://{DEAD}"}},
        "cloudwatch",
        "role",
        DOWN,
    ),
    ("ec2", {"fleet": {"notices": True, "metadata_url": f"http://{DEAD}"}}, "ec2", "fleet.notices: false", DOWN),
    ("a group", {"fleet": {"group": "nobody-made-it"}}, "autoscaling", "fleet.group", PROBLEM),
    ("a password", {"redis": {"url": "redis://:wrong@{redis}/0"}}, "redis", "redis.url", PROBLEM),
]


@pytest.mark.parametrize(
    ("changes", "about", "cure", "status"), [away[1:] for away in AWAY], ids=[away[0] for away in AWAY]
)
def test_what_does_not_answer_or_says_no_is_named_and_hides_nothing_else(
    patient: Patient, changes: dict[str, dict[str, Any]], about: str, cure: str, status: str
) -> None:
    """What answers and says no is a problem: it will say the same tomorrow."""
    names = {
        "endpoint": patient.world.aws.endpoint_url,
        "redis": patient.world.redis_url.rpartition("@")[2].split("/")[0],
    }
    for section, values in changes.items():
        patient.set(section, **{k: v.format(**names) if isinstance(v, str) else v for k, v in values.items()})
    found = check.examine(replace(patient.config(), path=""))
    (down,) = [finding for finding in wrong(found) if finding.about == about]
    assert (down.status, cure in down.cure) == (status, True), down
    assert "wrong" not in down.sentence
    assert {"ffmpeg", "scratch", "size"} <= {finding.about for finding in found if finding.status == OK}


def test_a_host_that_ec2_takes_away_and_a_group_that_may_choose_it_while_it_works_are_told(patient: Patient) -> None:
    patient.set("fleet", group=make_group(patient.world.aws))
    unprotected, group = fleet.group(Services(patient.config()))
    assert (unprotected.status, "fleet.notices: true" in unprotected.cure) == (WARNING, True)
    assert group.sentence.endswith("2 hosts wanted, 1 to 5; 0 protected")
    with instance() as here:
        patient.set("fleet", notices=True, metadata_url=here.url)
        (stays,) = fleet.ec2(Services(patient.config()))
        assert (stays.status, stays.sentence) == (OK, f"{INSTANCE_ID}, InService")
        here.says[SPOT] = SPOT_NOTICE
        assert [found.status for found in fleet.ec2(Services(patient.config()))] == [WARNING, OK]
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


def test_a_service_that_accepts_and_says_nothing_is_told_and_holds_nobody_up(patient: Patient) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        patient.set("aws", endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        asked = [probe for probe in check.outside(patient.config()) if probe.about in ("redis", "sqs", "s3")]
        found = {finding.about: finding for finding in check.answers(asked, seconds=1)}
    assert [found[name].status for name in ("redis", "sqs", "s3")] == [OK, DOWN, DOWN]
    assert found["s3"].sentence == "There was no answer within 1 s."
    assert "queue.url" in found["sqs"].cure


@pytest.mark.parametrize(
    ("code", "why"), [("ExpiredToken", "have expired"), ("SignatureDoesNotMatch", "does not know")]
)
def test_credentials_that_aws_does_not_accept_are_one_finding(patient: Patient, code: str, why: str) -> None:
    patient.set("cloudwatch", enabled=True)
    with Gate(patient.world.aws, lambda *_: (403, code)) as gate:
        patient.set("aws", endpoint_url=gate.endpoint_url)
        asked = [probe for probe in check.outside(patient.config()) if probe.about in ("sqs", "s3", "s3 sources")]
        (found,) = check.answers(asked)
    assert (found.about, found.status, why in found.sentence) == ("aws", PROBLEM, True)


def test_a_host_without_credentials_is_one_finding(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(patient.directory))
    patient.set("cloudwatch", enabled=True)
    (found,) = wrong(check.answers(check.outside(patient.config())))
    assert (found.about, "no AWS credentials" in found.sentence) == ("aws", True)


def test_a_bad_file_hides_nothing(patient: Patient) -> None:
    """What is wrong in it is said, and everything else is asked with what is right in it."""
    path = Path(patient.config().path)
    patient.set("pool", encodrs=3)
    patient.set("workspace", directory="/dev/null")
    del patient.settings["queue"]
    path.write_text(yaml.safe_dump(patient.settings))
    ran = appliance("check", "--config", str(path), "--json")
    found = ran.last["findings"]
    said = {about: [it["sentence"] for it in found if it["about"] == about] for about in {it["about"] for it in found}}
    assert ran.status == 78
    mistakes = said["configuration"]
    for word in ("did you mean `encoders`", "queue.url: is missing"):
        assert any(word in mistake for mistake in mistakes)
    assert said["scratch"] == ["/dev/null is no directory."]
    assert {"postgres", "redis", "s3", "port"} <= set(said)
    assert "sqs" not in said


def test_one_finding_about_the_database_hides_no_other(patient: Patient) -> None:
    patient.sql("DROP TABLE video_migration")
    patient.sql("CREATE INDEX of_the_platform ON video (leased_until)")
    patient.sql("ALTER TABLE video DROP COLUMN finished_token")
    probe = next(probe for probe in check.outside(patient.config()) if probe.about == "postgres")
    sentences = " ".join(finding.sentence for finding in wrong(check.answers([probe])))
    assert all(word in sentences for word in ("video_migration", "of_the_platform", "finished_token"))
