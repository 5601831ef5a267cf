from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import drain
from tests.hosts import World, eventually, host
from tests.shell import appliance


def test_a_running_host_is_drained_and_has_ended(world: World, tmp_path: Path) -> None:
    with host(world, tmp_path / "one") as running:
        config = tmp_path / "one" / "appliance.yaml"
        eventually(lambda: running.events("ENCODER_BOOTED"))
        eventually(lambda: drain.supervisor.look(running.port))
        ran = appliance("drain", "--config", config, "--json")
        assert (ran.status, ran.last["ended"], ran.last["pid"]) == (0, True, running.process.pid)
        assert running.process.wait(30) == 0
        assert running.events("DRAINING")
        again = appliance("drain", "--config", config, "--json")
        assert (again.status, again.last["error"]["code"]) == (1, "not_running")


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch):
    """Somebody else answers on the port, and gives the number of a process that is no appliance."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        monkeypatch.setattr(drain.supervisor, "look", lambda _: {"slots": [], "pid": cat.pid})
        monkeypatch.setattr(drain.systemd, "main_pid", lambda _: None)
        yield cat
        assert cat.stdin is not None
        cat.stdin.close()
        assert cat.wait() == 0


def test_only_an_appliance_is_signalled(impostor: subprocess.Popen[bytes]) -> None:
    ran = appliance("drain")
    assert ran.status == 1
    assert "No supervisor runs on this host" in ran.err
    assert impostor.poll() is None


@pytest.mark.parametrize(("options", "signal"), [([], "SIGTERM"), (["--now"], "SIGINT")])
def test_a_service_without_a_port_is_found_through_systemd(monkeypatch, settings, options, signal) -> None:
    script = (
        "import signal,sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [15, 2])\n"
        "print(flush=True)\n"
        "print(signal.Signals(signal.sigwait([15, 2])).name)"
    )
    with subprocess.Popen([sys.executable, "-c", script, "appliance"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr(drain.systemd, "main_pid", lambda unit: process.pid)
        ran = appliance("drain", *options, "--config", settings)
        assert process.stdout.read().strip() == signal
    assert ran.status == 0
    assert "systemctl start video-appliance" in ran.out


def test_what_is_still_in_hand_is_told_without_figures_that_flicker() -> None:
    slot = {"slot": 1, "video_id": 12, "percent": 40.4, "leaves_in_seconds": 81.3}
    idle = {**slot, "slot": 0, "video_id": None}
    told = drain.progress({"slots": [idle, slot]})
    assert told == "slot 1: video 12 at 40 %, handed over in 1 min 30 s at the latest"
    assert "ending" in drain.progress(None)


def test_whom_systemd_does_not_run_has_no_main_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text('#!/bin/sh\ncat "$0.says"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for said, pid in (("0\n", None), ("4711\n", 4711), ("", None)):
        (tmp_path / "systemctl.says").write_text(said)
        assert drain.systemd.main_pid("video-appliance.service") == pid
