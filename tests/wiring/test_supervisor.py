"""The whole supervisor as a program of its own, on real PostgreSQL, Redis and SQS."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.config import Config, Pool, load
from appliance.domain.errors import ConfigError
from appliance.wiring.host import encoders
from appliance.wiring.supervisor import rules, run, runtime_directory
from tests.supervisor.rows import Rows, closing
from tests.supervisor.stage import alive, until
from tests.supervisor.test_fleet import make_group

ENCODERS = "from appliance.config import load; from appliance.wiring.supervisor import run; import sys; "
REAL = ["-c", ENCODERS + "sys.exit(run(load(sys.argv[1])))"]
CLAIMANTS = ["-m", "tests.wiring.claimant"]


#: No metadata service answers there.
NO_EC2 = {"notices": True, "metadata_url": "http://127.0.0.1:9"}


class Running:
    """A supervisor and what it wrote."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self._log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def ask(self, path: str) -> tuple[int, str]:
        port = until(lambda: self.events("WEB_READY"), "WEB_READY")[0]["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


class World:
    def __init__(self, rows: Rows, aws: Any, directory: Path) -> None:
        self.rows, self._directory = rows, directory
        self.file = directory / "appliance.yaml"
        self.settings: dict[str, Any] = {
            "database": {"dsn": rows.dsn, "connect_timeout_seconds": 2},
            "queue": {"url": rows.queue_url, "wait_seconds": 1, "poll_seconds": 1},
            "storage": {"bucket": "unused-bucket"},
            "aws": {"region": aws.region, "endpoint_url": aws.endpoint_url},
            "redis": {"url": rows._redis_url},
            "reconcile": {"tick_seconds": 1},
            "pool": {"encoders": 1, "backoff_first_seconds": 0.1, "drain_seconds": 10},
            "workspace": {"directory": str(directory / "work")},
            "web": {"host": "127.0.0.1", "port": 0},
        }
        self.write()

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.settings))

    @contextmanager
    def supervisor(self, program: list[str], name: str = "first", **environment: str) -> Iterator[Running]:
        log = self._directory / f"{name}.log"
        command = [sys.executable, *program, str(self.file)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stderr=output, stdout=output, env={**os.environ, **environment})
        running = Running(process, log)
        try:
            yield running
        except BaseException:
            print(log.read_text(encoding="utf-8"))  # noqa: T201 - pytest shows it with the failure
            raise
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def world(dsn, redis_url, aws, queue_url, tmp_path) -> Iterator[World]:
    with closing(Rows(dsn, redis_url, aws, queue_url)) as rows:
        yield World(rows, aws, tmp_path)


def held_by_child(world: World, video_id: int) -> str | None:
    return world.rows.row(video_id)["lease_token"]


def test_f02_a_killed_encoders_video_changes_hands_on_the_same_host(world):
    video_id = world.rows.waiting()
    with world.supervisor(CLAIMANTS) as running:
        token = until(lambda: held_by_child(world, video_id))
        os.kill(until(lambda: running.events("ENCODER_BOOTED"))[0]["pid"], signal.SIGKILL)
        until(lambda: held_by_child(world, video_id) not in (None, token))
        (ended,) = running.events("ENCODER_ENDED")
        assert (ended["reason"], "out of memory?" in ended["why"]) == ("killed", True)
        assert [line["video_id"] for line in running.events("ABANDONED")] == [video_id]
        status, metrics = running.ask("/metrics")
        assert status == 200
        assert 'video_appliance_reclaims_total{reason="abandoned"} 1.0' in metrics
        assert 'video_appliance_slot_restarts_total{reason="killed"} 1.0' in metrics
        assert running.ask("/readyz") == (200, "ready\n")
        assert json.loads(running.ask("/status.json")[1])["slots"][0]["video_id"] == video_id
        # released by the drain, not lost
        assert running.end() == 0
    row = world.rows.row(video_id)
    assert (row["status"], row["loss_count"]) == ("UPLOADED", 1)


def test_f31_a_restarted_supervisor_abandons_exactly_what_its_predecessors_children_held(world):
    video_id = world.rows.waiting()
    with world.supervisor(CLAIMANTS) as running:
        until(lambda: held_by_child(world, video_id))
        until(lambda: list((world.file.parent / "work/supervisor").glob("*.tokens")))
        child = running.events("ENCODER_BOOTED")[0]["pid"]
        running.process.kill()
        running.process.wait()
        until(lambda: not alive(child), "the orphan's end")
    other = world.rows.held()
    with world.supervisor(CLAIMANTS, "second") as running:
        until(lambda: running.events("ABANDONED"))
        assert [line["video_id"] for line in running.events("ABANDONED")] == [video_id]
        assert world.rows.row(other.video_id)["lease_token"] == str(other.token)
        running.end()


def test_in_direct_mode_the_winner_of_the_tick_sets_the_groups_desired_capacity(world, aws):
    group = make_group(aws)
    for _ in range(3):
        world.rows.waiting()
    world.settings |= {"fleet": {"group": group, "direct": True, **NO_EC2}, "cloudwatch": {"period_seconds": 1}}
    world.settings["lease"], world.settings["redis"]["timeout_seconds"] = {"renew_seconds": 1}, 0.5
    world.write()
    with world.supervisor(CLAIMANTS) as running:
        until(lambda: running.events("FLEET_DECISION"), "a decision")
        assert running.end() == 0
    (found,) = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])[
        "AutoScalingGroups"
    ]
    assert found["DesiredCapacity"] == 3


def test_f23_with_postgresql_down_at_start_it_waits_says_so_once_and_works_when_it_is_back(world, postgres):
    video_id = world.rows.waiting()
    world.rows.database.close()
    postgres.stop()
    with world.supervisor(REAL) as running:
        until(lambda: running.events("ENCODER_BOOTED"), "an encoder's boot")
        _, reasons = until(lambda: (answer := running.ask("/readyz"))[0] == 503 and answer)
        assert "postgres has not answered" in reasons
        assert running.ask("/healthz") == (200, "ok\n")
        postgres.start()
        until(lambda: running.ask("/readyz")[0] == 200, "readiness")
        until(lambda: world.rows.sql("SELECT 1 AS one FROM video_attempt WHERE video_id = %s", video_id))
        seen = [line for line in running.events("DEPENDENCY_DOWN") if line.get("seen_by") == "reconcile"]
        assert [line["dependency"] for line in seen] == ["postgres"]
        assert running.events("ENCODER_ENDED") == []
        assert running.end() == 0


def test_f43_a_main_loop_that_stands_still_feeds_no_watchdog_and_its_end_shows_where_it_stood(world, tmp_path):
    """systemd's part is played here: it sends SIGABRT when nothing fed the watchdog (WatchdogSec=)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gate:
        gate.bind(str(tmp_path / "notify"))
        watchdog = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
        with world.supervisor(REAL, **watchdog) as running:
            gate.settimeout(60)
            while gate.recv(4096) != b"WATCHDOG=1":
                pass
            child = until(lambda: running.events("ENCODER_BOOTED"))[0]["pid"]
            running.process.send_signal(signal.SIGSTOP)
            gate.settimeout(3)
            with suppress(TimeoutError):  # what was sent before is read away; then nothing comes for three seconds
                for _ in range(20):
                    gate.recv(4096)
                pytest.fail("a main loop that stands still went on feeding the watchdog")
            running.process.send_signal(signal.SIGABRT)
            running.process.send_signal(signal.SIGCONT)
            assert running.process.wait(30) == -signal.SIGABRT
            until(lambda: not alive(child), "the encoder's end")
    log = (tmp_path / "first.log").read_text(encoding="utf-8")
    assert "Fatal Python error: Aborted" in log
    # of the main loop, in whichever of its calls; a dump in the middle of one does not reach the outer ones
    assert re.search(r"supervisor/(process|pool)\.py", log)


def test_f40_a_reload_of_a_bad_file_fails_and_a_good_one_resizes_the_pool(world):
    with world.supervisor(CLAIMANTS) as running:
        until(lambda: running.events("ENCODER_BOOTED"))
        world.file.write_text("pool: {encoder: 2}\n")
        running.process.send_signal(signal.SIGHUP)
        (failed,) = until(lambda: running.events("RELOAD_FAILED"))
        assert any("encoder" in problem for problem in failed["problems"])
        world.settings["pool"]["encoders"] = 2
        world.write()
        running.process.send_signal(signal.SIGHUP)
        (reloaded,) = until(lambda: running.events("RELOADED"))
        assert (reloaded["encoders"], reloaded["at_once"]) == (2, ["pool.encoders"])
        until(lambda: len(running.events("ENCODER_BOOTED")) == 2)
        assert running.end() == 0


def test_f42_a_real_encoder_has_no_descriptor_of_the_supervisors_and_leaves_the_command_line_out(world):
    with world.supervisor(REAL) as running:
        pid = until(lambda: running.events("ENCODER_BOOTED"))[0]["pid"]
        running.ask("/healthz")
        of_supervisor, of_child = (_sockets(each) for each in (running.process.pid, pid))
        assert of_supervisor
        assert not of_supervisor & of_child
        assert running.end() == 0


def test_f40_a_configuration_that_cannot_run_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match=r"queue\.url"):
        run(Config())


def test_auto_counts_and_a_number_is_a_number():
    assert encoders(Config(pool=Pool(encoders=3))) == (3, "3 encoders: pool.encoders says so")
    found, why = encoders(Config())
    assert found >= 1
    assert why.startswith(f"{found} encoders: ")


def test_the_runtime_directory_is_systemds_or_beside_the_scratch_rooms(tmp_path):
    config = Config()
    assert runtime_directory(config, {"RUNTIME_DIRECTORY": "/run/video-appliance:/run/other"}) == Path(
        "/run/video-appliance"
    )
    assert runtime_directory(config, {}) == Path(config.workspace.directory) / "supervisor"


def test_reconciles_rules_come_from_the_file(world):
    config = load(world.file)
    assert (rules(config).strict, rules(config).heartbeat_ttl_seconds) == (False, 60.0)
    assert rules(replace(config, reconcile=replace(config.reconcile, heartbeat="strict"))).strict


def _sockets(pid: int) -> set[str]:
    links = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in links if link.startswith("socket:")}
