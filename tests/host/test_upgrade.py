"""`sudo ./install.sh` on a booted machine: what it refuses, what it changes, how it goes over to another release."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.host.conftest import CONFIGURATION, DROP_IN, Service
from tests.host.machine import UNIT

#: Where a user is noted; this system keeps each as it was before its last change, with a minus.
ACCOUNTS = ("passwd", "group", "shadow", "gshadow")
#: A release that is READY, as far as systemd was told, and dies.
DIES = """
import os
from appliance.adapters.systemd import Notify

def arguments(parser):
    del parser

def main(options):
    Notify(os.environ).ready()
    return 3
"""


@pytest.fixture
def other(service: Service) -> Iterator[Callable[[str, str], None]]:
    """Makes /checkout another version, with text added to some files; it is itself again afterwards."""
    kept: dict[Path, str] = {}

    def change(version: str, added: Mapping[str, str] = MappingProxyType({})) -> None:
        initial = service.checkout / "appliance/__init__.py"
        for path in (initial, *(service.checkout / name for name in added)):
            kept.setdefault(path, path.read_text())
        for path, text in kept.items():
            path.write_text(text + added.get(str(path.relative_to(service.checkout)), ""))
        initial.write_text(re.sub('(?<=__version__ = ").*(?=")', version, kept[initial]))

    yield change
    for path, text in kept.items():
        path.write_text(text)


def refused(service: Service, *arguments: str) -> str:
    """What install.sh says when it changes nothing, be it on the disk or in what runs."""
    pid, files = service.machine.main_pid, service.machine.files()
    done = service.machine.run("/checkout/install.sh", *arguments, check=False)
    assert done.returncode == 1, done.stdout
    assert service.machine.main_pid == pid, service.machine.journal()[-3000:]
    assert service.machine.files() ^ files == set()
    return done.stdout


def test_a_full_disk_is_one_sentence_and_nothing_changed(service: Service) -> None:
    service.machine.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/opt")
    try:
        assert re.fullmatch(r"install.sh: needs 800 MiB under /opt/.*\n", refused(service))
        assert service.machine.say("ls", "/opt") == ""
    finally:
        service.machine.run("umount", "/opt")


def test_packages_that_are_not_there_leave_nothing_behind(service: Service, other: Callable[..., None]) -> None:
    other("0.4.0", {"config/requirements/run.txt": "\n"})
    said = refused(service, "--offline", "/checkout")
    assert "install.sh: the Python packages could not be installed" in said


def test_a_second_installation_says_no_changes_and_touches_nothing(service: Service) -> None:
    pid, files = service.machine.main_pid, service.machine.files()
    assert service.install().stdout == "no changes\n"
    assert (service.machine.main_pid, service.machine.files()) == (pid, files)


def test_upgrade_failed_upgrade_and_rollback_in_mid_encode_cost_the_video_nothing(
    service: Service, other: Callable[..., None], long_recording: Path
) -> None:
    first = service.release
    service.configure(pool={"drain_seconds": 1})
    service.machine.systemctl("reload", UNIT)
    video_id = service.begun(long_recording)
    service.hold()
    other("0.2.0")
    service.install()
    assert (service.release, service.runs) == ("0.2.0", "0.2.0")
    unit = service.machine.say("systemctl", "cat", UNIT)
    other("0.3.0", {"appliance/cli/run.py": DIES, "systemd/video-appliance.service": "\n[Service]\nTasksMax=999\n"})
    done = service.install(check=False)
    assert done.returncode == 1
    assert "0.3.0 does not come up (above: its last words); 0.2.0 runs again" in done.stdout
    assert service.machine.say("systemctl", "cat", UNIT) == unit
    assert (service.release, service.runs) == ("0.2.0", "0.2.0")
    service.install("--rollback")
    assert (service.release, service.runs) == (first, first)
    receipt = service.ready(video_id)
    assert receipt["chunks_resumed"] >= 1
    outcomes = [attempt["outcome"] for attempt in service.world.attempts(video_id)]
    assert set(outcomes[:-1]) == {"released"}
    releases = service.machine.say("ls", "/opt/video-appliance/releases").split()
    assert set(releases) == {first, "0.2.0"}


@pytest.mark.parametrize(
    ("section", "setting", "said"),
    [
        ("pool", {"encoder": 3}, "cannot use this configuration: .* did you mean `encoders`"),
        ("ffmpeg", {"ffmpeg": "/opt/ffmpeg/bin/ffmpeg"}, "ffmpeg was not found: .*; nothing was changed"),
    ],
)
def test_a_release_that_could_not_run_here_is_refused_and_the_running_one_is_not_touched(
    service: Service, other: Callable[..., None], section: str, setting: dict[str, object], said: str
) -> None:
    service.configure(**{section: setting})
    other("0.4.0")
    assert re.search(said, refused(service))


def test_uninstalling_leaves_no_file_and_purging_no_user(service: Service, before: set[str]) -> None:
    service.machine.run("cp", "/opt/video-appliance/current/video-appliance.yaml", CONFIGURATION)
    service.machine.run("rm", "-r", "/etc/video-appliance.dsn", str(Path(DROP_IN).parent))
    service.install("--uninstall")
    assert service.machine.files() ^ before <= {f"~/etc/{name}{end}" for name in ACCOUNTS for end in ("", "-")}
    assert service.machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    assert service.machine.run("id", UNIT).returncode == 0
    service.install("--purge")
    assert service.machine.files() ^ before <= {f"~/etc/{name}-" for name in ACCOUNTS}
    assert service.machine.run("id", UNIT, check=False).returncode != 0
