from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.domain.errors import Transient
from appliance.encoder.workspace import Workspace, free_memory_bytes
from tests.encoder.stage import a_lease, until

#: Opens a room and stays in it until it is killed.
TENANT = """
import sys, time
from pathlib import Path
from appliance.encoder.workspace import Workspace
from tests.encoder.stage import a_lease
with Workspace(Path(sys.argv[1]), min_free_bytes=0, min_free_memory_bytes=0).room(a_lease()) as room:
    (room / "source").write_bytes(b"x")
    (room.parent / "ready").write_text(str(room))
    time.sleep(600)
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path, min_free_bytes=0, min_free_memory_bytes=0)


def test_a_room_is_private_and_gone_afterwards(workspace):
    with workspace.room(a_lease(7)) as room:
        assert stat.S_IMODE(room.stat().st_mode) == 0o700
        assert room.name.startswith("job-7-")
        (room / "chunk-1").mkdir()
        (room / "chunk-1" / "a.m4s").write_bytes(b"x")
    assert not room.exists()


def test_a_room_is_gone_whatever_happens_inside(workspace):
    with pytest.raises(ZeroDivisionError), workspace.room(a_lease()) as room:
        _ = 1 / 0
    assert not room.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_f35_a_full_disk_is_transient_and_the_room_is_cleaned(workspace, number):
    with pytest.raises(Transient) as raised, workspace.room(a_lease()) as room:
        raise OSError(number, os.strerror(number))
    assert raised.value.code == "disk_full"
    assert not room.exists()


def test_f35_a_really_full_disk_is_transient(workspace):
    with pytest.raises(Transient) as raised, workspace.room(a_lease()):
        Path("/dev/full").write_bytes(b"x")
    assert raised.value.code == "disk_full"


def test_other_errors_of_the_system_are_not_the_disks(workspace):
    with pytest.raises(FileNotFoundError), workspace.room(a_lease()) as room:
        (room / "missing").read_bytes()


def test_f36_rooms_in_use_are_never_swept(workspace, tmp_path):
    with workspace.room(a_lease()) as room:
        assert Workspace(tmp_path, min_free_bytes=0, min_free_memory_bytes=0).sweep() == 0
        assert room.exists()


def test_f36_a_room_left_by_a_sigkill_is_swept_and_one_in_use_by_another_process_is_not(workspace, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", TENANT, str(tmp_path)])
    try:
        until((tmp_path / "ready").exists)
        (room,) = tmp_path.glob("job-*")
        assert workspace.sweep() == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert room.exists()
        assert workspace.sweep() == 1
        assert not room.exists()
    finally:
        process.kill()
        process.wait()


def test_f36_what_is_not_a_room_is_left_alone(workspace, tmp_path):
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "job-file").write_text("not a directory")
    assert workspace.sweep() == 0
    assert (tmp_path / "supervisor").exists()


def test_nothing_is_lacking_where_there_is_room(workspace):
    assert workspace.lack() == ""


def test_a_missing_directory_is_made(tmp_path):
    workspace = Workspace(tmp_path / "a" / "b", min_free_bytes=0, min_free_memory_bytes=0)
    assert workspace.sweep() == 0
    assert workspace.lack() == ""
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("floors", "setting"),
    [
        ({"min_free_bytes": 2**60, "min_free_memory_bytes": 0}, "workspace.min_free_bytes"),
        ({"min_free_bytes": 0, "min_free_memory_bytes": 2**60}, "workspace.min_free_memory_bytes"),
    ],
)
def test_f35_too_little_room_is_said_with_the_setting(tmp_path, floors, setting):
    assert setting in Workspace(tmp_path, **floors).lack()


def test_f35_a_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    lack = Workspace(tmp_path / "file" / "scratch", min_free_bytes=0, min_free_memory_bytes=0).lack()
    assert "cannot be used" in lack


def test_f35_a_read_only_directory_is_said(workspace, monkeypatch):
    # Running as root, no mode forbids writing; a read-only mount answers access(2) as this does.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written to" in workspace.lack()


def test_free_memory_is_what_the_kernel_says():
    assert 0 < free_memory_bytes() < 2**50
