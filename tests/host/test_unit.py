"""The installed unit under a real systemd: what `systemctl` does to it, and what happens to a running encode."""

from __future__ import annotations

import os
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg.sandbox import Cage, self_test
from tests.host.conftest import CHUNKS, CONFIGURATION, Service
from tests.host.machine import UNIT
from tests.hosts import eventually

RUNTIME_DROP_IN = f"/run/systemd/system/{UNIT}.service.d/one-test.conf"


def metrics(service: Service) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@contextmanager
def tiny_memory() -> Iterator[Path]:
    """A control group in which the next page is one too many; its kernel kills as OOMPolicy= expects it to."""
    place = Path("/sys/fs/cgroup/memory")
    if not (place / "memory.limit_in_bytes").exists() and not (place / "cgroup.procs").exists():
        pytest.skip("the memory controller is not one of cgroup v1 here")
    cgroup = place / f"video-appliance-{os.getpid()}"
    cgroup.mkdir()
    try:
        (cgroup / "memory.limit_in_bytes").write_text("65536")
        yield cgroup
    finally:
        eventually(lambda: not (cgroup / "cgroup.procs").read_text())
        cgroup.rmdir()


def killed(cgroup: Path) -> bool:
    return "oom_kill 0" not in (cgroup / "memory.oom_control").read_text()


def test_from_the_installation_to_a_ready_video(service: Service, recording: Path) -> None:
    receipt = service.ready(service.begun(recording))
    assert receipt["chunks_encoded"] == receipt["chunks_total"] == CHUNKS
    eventually(lambda: service.machine.show("StatusText") == "1 encoders: 1 idle; 0 videos wait")
    eventually(lambda: "handler.handle() returned" in service.machine.journal())


def test_f45_the_unit_takes_no_layer_of_the_cage_away(service: Service) -> None:
    found = re.findall(r'^video_appliance_sandbox_layer\{layer="(\w+)"\} (\d)', metrics(service), re.MULTILINE)
    assert {layer: state == "1" for layer, state in found} == self_test(Cage())


def test_f49_the_database_s_password_is_a_credential_and_in_nobody_s_environment(service: Service) -> None:
    dsn = service.world.dsn
    pids = service.machine.say("cat", f"/sys/fs/cgroup/system.slice/{UNIT}.service/cgroup.procs").split()
    assert len(pids) >= 3  # supervisor, fork server, encoder
    assert all(dsn not in service.machine.say("cat", f"/proc/{pid}/environ") for pid in pids)
    assert service.machine.say("stat", "-c", "%a %U", "/etc/video-appliance.dsn") == "600 root"


def test_whoever_may_not_read_the_configuration_is_told_to_use_sudo(service: Service) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = service.machine.run(*nobody, "video-appliance", "status", check=False)
    assert done.returncode == 78
    sentence = "cannot be read: Permission denied; it is for root and the service: use sudo"
    assert f"{CONFIGURATION}: {sentence}" in done.stdout


def test_a_reload_waits_and_says_what_changed(service: Service) -> None:
    pid = service.machine.main_pid
    service.configure(pool={"encoders": 2})
    service.machine.systemctl("reload", UNIT)
    assert "reloaded, at once: pool.encoders" in service.machine.journal()
    eventually(lambda: service.machine.show("StatusText").startswith("2 encoders: 2 idle"))
    assert service.machine.main_pid == pid
    service.configure()
    service.machine.systemctl("reload", UNIT)
    eventually(lambda: service.machine.show("StatusText").startswith("1 encoders: 1 idle"))


def test_f40_a_reload_of_a_bad_file_fails_and_changes_nothing(service: Service) -> None:
    pid = service.machine.main_pid
    service.machine.write(CONFIGURATION, "pool: {encoder: 3}\n")
    done = service.machine.systemctl("reload", UNIT, check=False)
    assert done.returncode == 1
    assert "did you mean" in service.machine.journal()
    assert (service.machine.show("ActiveState"), service.machine.main_pid) == ("active", pid)


def test_f40_a_bad_file_at_start_ends_in_78_and_is_not_tried_again(service: Service) -> None:
    service.machine.write(CONFIGURATION, "pool: {encodrs: 3}\n")
    assert service.machine.systemctl("restart", UNIT, check=False).returncode == 1
    shown = [service.machine.show(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert shown == ["failed", "78", "0"]
    assert "encodrs" in service.machine.journal()


def test_f37_a_stop_in_mid_encode_drains_past_its_timeout_and_loses_nothing(service: Service, recording: Path) -> None:
    video_id = service.begun(recording)
    service.machine.systemctl("stop", UNIT)
    assert (service.machine.show("Result"), service.machine.show("ExecMainStatus")) == ("success", "0")
    assert service.machine.run("ls", f"/sys/fs/cgroup/system.slice/{UNIT}.service", check=False).returncode != 0
    row = service.world.row(video_id)
    assert row["status"] in {"UPLOADED", "READY"}
    done = service.done_chunks(video_id)
    service.machine.systemctl("start", UNIT)
    receipt = service.ready(video_id)
    assert row["status"] == "READY" or receipt["chunks_resumed"] == done


def test_f31_a_killed_supervisor_is_back_and_resumes(service: Service, recording: Path) -> None:
    """Says the seconds from the kill to the next chunk that somebody began: `… -k f31 -s`."""
    video_id = service.begun(recording)
    service.hold()  # what was done stays so until the kill
    pid, restarts = service.machine.main_pid, int(service.machine.show("NRestarts"))
    done, killed_at = service.done_chunks(video_id), service.world.query("SELECT now() AS at")[0]["at"]
    service.machine.run("kill", "-KILL", str(pid))
    receipt = service.ready(video_id)
    assert receipt["chunks_resumed"] == done
    assert [attempt["outcome"] for attempt in service.world.attempts(video_id)] == ["abandoned", "ready"]
    assert int(service.machine.show("NRestarts")) == restarts + 1
    assert service.machine.main_pid != pid
    began = "SELECT min(started_at) AS at FROM video_chunk WHERE video_id = %s AND started_at > %s"
    seconds = (service.world.query(began, video_id, killed_at)[0]["at"] - killed_at).total_seconds()
    sys.stdout.write(f"from kill -9 of the supervisor to the next chunk: {seconds:.1f} s\n")


def test_drain_on_the_installed_unit_says_what_it_waits_for_and_a_start_goes_on(
    service: Service, recording: Path
) -> None:
    """`drain --now` hands over what `drain` would have finished; neither is a failure that systemd restarts."""
    video_id = service.begun(recording)
    service.hold()
    drain = service.machine.start("video-appliance", "drain")
    assert drain.stdout is not None
    assert f"slot 0: video {video_id}" in drain.stdout.readline()
    assert service.machine.show("StatusText").startswith("Draining")
    service.machine.run("video-appliance", "drain", "--now")
    assert "Drained: process" in drain.communicate()[0]
    eventually(lambda: service.machine.show("ActiveState") == "inactive")
    assert (service.machine.show("Result"), service.world.row(video_id)["status"]) == ("success", "UPLOADED")
    done = service.done_chunks(video_id)
    service.machine.systemctl("start", UNIT)
    assert service.ready(video_id)["chunks_resumed"] == done
    attempts = service.world.attempts(video_id)
    assert [attempt["outcome"] for attempt in attempts] == ["released", "ready"]


def test_f36_an_ffmpeg_that_the_kernel_kills_for_memory_takes_nobody_with_it(service: Service, recording: Path) -> None:
    video_id = service.begun(recording)
    pid, restarts = service.machine.main_pid, service.machine.show("NRestarts")
    service.hold()
    with tiny_memory() as cgroup:
        for process in service.machine.processes(UNIT):
            if "ffmpeg" in str(Path(f"/proc/{process}/exe").readlink()):
                (cgroup / "cgroup.procs").write_text(str(process))
                os.kill(process, signal.SIGCONT)
        eventually(lambda: killed(cgroup))
    eventually(lambda: service.world.row(video_id)["failure_count"] == 1)
    assert (service.machine.main_pid, service.machine.show("NRestarts")) == (pid, restarts)
    service.machine.run("video-appliance", "cancel", str(video_id))
    eventually(lambda: service.machine.show("StatusText").startswith("1 encoders: 1 idle"))


def test_a_crash_loop_is_gone_through_and_not_given_up(service: Service) -> None:
    """systemd's own limit is five starts in ten seconds; RestartSec= is shorter here than it is on a host."""
    for _ in range(8):
        pid = service.machine.main_pid
        service.machine.run("kill", "-KILL", str(pid))
        eventually(lambda pid=pid: service.machine.main_pid not in {0, pid}, every=0.02)
    eventually(lambda: service.machine.show("ActiveState") == "active")


def test_f43_a_supervisor_that_stands_still_is_aborted_and_started_anew(service: Service) -> None:
    service.machine.write(RUNTIME_DROP_IN, "[Service]\nWatchdogSec=4\n")
    service.machine.systemctl("daemon-reload")
    service.machine.systemctl("restart", UNIT)
    pid = service.machine.main_pid
    service.machine.run("kill", "-STOP", str(pid))
    eventually(lambda: service.machine.main_pid not in {0, pid})
    eventually(lambda: service.machine.show("ActiveState") == "active")
    journal = service.machine.say(
        "journalctl", "-u", UNIT, "--no-pager", f"_PID={pid}", "+", "_PID=1", f"UNIT={UNIT}.service"
    )
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal
    service.machine.run("rm", RUNTIME_DROP_IN)
    service.machine.systemctl("daemon-reload")


def test_a_reboot_in_mid_encode_goes_on_by_itself(service: Service, recording: Path) -> None:
    service.configure(pool={"drain_seconds": 1})
    service.machine.systemctl("reload", UNIT)
    video_id = service.begun(recording)
    service.hold()  # a fast machine would come to the end of it first
    service.machine.reboot()
    assert service.ready(video_id)["chunks_resumed"] >= 1
