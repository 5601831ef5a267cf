"""What a child is made of, after the fork."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.domain.events import EXIT_CONFIG, EXIT_NOT_STARTED, Booted
from appliance.encoder.drain import Drain
from appliance.encoder.parent import Parent
from appliance.encoder.pipeline import Pipeline
from appliance.wiring.encoder import build, rhythm, worker
from tests.encoder.stage import child, encoder, make_world, until
from tests.encoder.works import linger, publish


@pytest.fixture
def world(dsn, redis_url, aws, queue_url, tmp_path):
    return make_world(dsn, redis_url, aws, queue_url, tmp_path)


@pytest.fixture
def parts():
    ours, theirs = multiprocessing.Pipe()
    drain = Drain(1.0)
    yield Parent(theirs), drain
    ours.close()
    theirs.close()
    drain.close()


def test_nothing_is_connected_and_no_thread_started_while_it_is_made(parts, tmp_path):
    config = Config()
    config = replace(
        config,
        database=replace(config.database, dsn="postgresql://127.0.0.1:1/none"),
        aws=replace(config.aws, region="ap-northeast-2", endpoint_url="http://127.0.0.1:1"),
        workspace=replace(config.workspace, directory=str(tmp_path / "scratch")),
    )
    before = threading.active_count()
    build(config, 0, *parts, publish)
    assert threading.active_count() == before
    assert not (tmp_path / "scratch").exists()


def test_without_a_work_of_its_own_it_is_the_pipeline(world, parts):
    assert isinstance(build(world.config, 0, *parts)._work, Pipeline)


def test_f19_the_name_is_for_people_and_fits_the_column(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 64)
    made = worker(12)
    assert made.host == "h" * 64
    assert len(made.name) == 64
    assert made.name.endswith(f":12:{os.getpid()}")


def test_a_hang_is_longer_than_the_longest_turn_and_noticed_before_the_lease_ends():
    made = rhythm(Config())
    assert made.renew_seconds == 20
    assert made.renew_seconds + 30 < made.silent_seconds
    assert made.silent_seconds + made.grace_seconds < Config().lease.lease_seconds


def test_f26_an_encoder_holds_two_connections_to_the_database(world):
    video_id = world.video()
    held = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'video-appliance%%'"
    with encoder(world, linger) as running:
        running.until_logged("JOB_WARNING")
        until(lambda: len(world.query(held)) == 2, "the heartbeat's connection")
        names = {row["application_name"] for row in world.query(held)}
        running.drain.note()
        running.drain.note()
    assert names == {"video-appliance encoder 0", "video-appliance heartbeat 0"}
    assert world.status(video_id) == "UPLOADED"


def test_f40_a_child_that_cannot_use_its_configuration_leaves_with_78(world, tmp_path):
    database = replace(world.config.database, dsn="", dsn_file=str(tmp_path / "missing"))
    broken = replace(world, config=replace(world.config, database=database))
    with child(broken, publish, tmp_path) as process:
        assert process.end() == EXIT_CONFIG
        (line,) = process.lines("CONFIGURATION")
    assert "database.dsn_file" in line["problems"][0]


def test_f32_an_ffmpeg_that_is_killed_while_a_child_starts_is_no_mistake_in_the_file(world, tmp_path):
    """Exit 78 would stop the unit for good, because the kernel was short of memory for a moment."""
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    broken = replace(world, config=replace(world.config, ffmpeg=replace(world.config.ffmpeg, ffmpeg=str(program))))
    with child(broken, None, tmp_path) as process:
        assert process.end() == EXIT_NOT_STARTED
        (line,) = process.lines("NOT_STARTED")
    assert "killed by signal 9" in line["error"]


def test_a_child_waits_for_a_database_that_is_down_and_says_so(world, postgres, tmp_path):
    video_id = world.video()
    postgres.stop()
    with child(world, publish, tmp_path) as process:
        assert process.until_logged("DEPENDENCY_DOWN")["dependency"] == "postgres"
        assert isinstance(process.connection.recv(), Booted)
        assert process.process.is_alive()
        postgres.start()
        until(lambda: world.status(video_id) == "READY", "READY")


def test_f42_a_child_inherits_no_socket_and_no_file(world, tmp_path):
    ours, theirs = socket.socketpair()
    journal = (tmp_path / "journal").open("w")
    with ours, theirs, journal:
        for held in (ours, theirs, journal):
            os.set_inheritable(held.fileno(), True)
        mine = {Path(f"/proc/self/fd/{held.fileno()}").readlink() for held in (ours, theirs, journal)}
        with child(world, publish, tmp_path) as process:
            until(lambda: process.connection.poll() and isinstance(process.connection.recv(), Booted), "the boot")
            its = {number.readlink() for number in Path(f"/proc/{process.process.pid}/fd").iterdir()}
    assert its
    assert not mine & its
