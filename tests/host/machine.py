"""A machine of our own: this one's systemd as PID 1 of namespaces, on a copy-on-write view of its file system.

Needs root, systemd, util-linux and overlayfs; boots in about a second. Its network is this machine's, so the embedded
stack of the tests is its PostgreSQL, Redis and AWS.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.local import tether
from tests.hosts import eventually

BOOT = Path(__file__).with_name("boot.sh")
SYSTEMD = Path("/lib/systemd/systemd")
UNIT = "video-appliance"
#: Mounted anew at each boot, or written by systemd as it likes.
NOT_LISTED = {"proc", "sys", "dev", "run", "tmp", "old-root", "var/log", "var/tmp", "var/lib/systemd"}


def impossible() -> str:
    """Why no machine can be booted here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root to boot a systemd"
    if not SYSTEMD.exists() or not shutil.which("unshare") or not shutil.which("nsenter"):
        return "systemd is not installed"
    if "overlay" not in Path("/proc/filesystems").read_text() or _cgroup() is None:
        return "needs overlayfs and cgroup2 to boot a systemd"
    return ""


def _cgroup() -> Path | None:
    places = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
    return next((place for place in places if (place / "cgroup.procs").exists()), None)


class Machine:
    """`run` is a root shell on it; what it starts lies outside of the machine's units."""

    def __init__(self, cgroup: Path, written: Path) -> None:
        self._cgroup, self._written = cgroup, written
        self._first: int | None = None

    def run(self, *command: str | Path, check: bool = True, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Output and errors in `.stdout`. A failure is shown with what was said."""
        done = subprocess.run(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """The same, not waited for."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._inside(command), stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def _inside(self, command: Sequence[str | Path]) -> list[str]:
        inside = ["nsenter", "-t", str(self._first), "-m", "-u", "-i", "-p", "--", "env", "-i", "HOME=/root"]
        return [*inside, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *map(str, command)]

    def processes(self, unit: str) -> list[int]:
        """The unit's, by the numbers that they have on our side."""
        return [int(pid) for pid in (self._cgroup / f"system.slice/{unit}.service/cgroup.procs").read_text().split()]

    def say(self, *command: str | Path) -> str:
        return self.run(*command).stdout.strip()

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *arguments, check=check)

    def show(self, name: str) -> str:
        """A property of the unit, as systemd has it."""
        return self.say("systemctl", "show", "-P", name, UNIT)

    @property
    def main_pid(self) -> int:
        return int(self.show("MainPID"))

    def journal(self) -> str:
        return self.say("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "-a")

    def write(self, path: str, text: str, mode: int | None = None) -> bool:
        """Through its root, as its own processes see it; returns whether that was another text or none before.

        `mode` None: as it was, or as a new file is.
        """
        file = Path(f"/proc/{self._first}/root{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists() or file.read_text() != text
        file.touch()
        if mode is not None:
            file.chmod(mode)
        file.write_text(text)
        return new

    def files(self) -> set[str]:
        """What this machine has and ours has not; a minus before what was removed, a tilde before what reads otherwise.

        Without what boots make.
        """
        found = set()
        for directory, directories, names in os.walk(self._written):
            inside = Path("/", Path(directory).relative_to(self._written))
            directories[:] = [name for name in directories if str(inside / name).lstrip("/") not in NOT_LISTED]
            for name in [*directories, *names]:
                removed = stat.S_ISCHR(Path(directory, name).lstat().st_mode)  # overlayfs marks it by a device 0:0
                if removed or not os.path.lexists(inside / name):
                    found.add(f"{'-' * removed}{inside / name}")
                elif _differs(Path(directory, name), inside / name):
                    found.add(f"~{inside / name}")
        return found

    def boot(self) -> None:
        """Wait until it is up: for the first time, or with another PID 1 than before."""
        before = self._first
        self._first = eventually(lambda: (pid := self._systemd()) and pid != before and pid)
        eventually(
            lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in {"running", "degraded"}
        )

    def reboot(self) -> None:
        self.systemctl("reboot", check=False)
        self.boot()

    def _systemd(self) -> int | None:
        try:
            return int((self._cgroup / "init.scope/cgroup.procs").read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return None


@contextmanager
def booted(directory: Path, *shared: tuple[Path, str]) -> Iterator[Machine]:
    """A running machine; `shared` are directories of ours and where they are in it. Nothing of it stays."""
    place = _cgroup()
    assert place is not None
    cgroup = place / f"video-appliance-{uuid.uuid4().hex[:12]}"
    cgroup.mkdir()
    directory.mkdir()
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        str(BOOT),
        str(directory),
        str(cgroup),
    ]
    ties = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), "9", "0", shutil.which(command[0]) or ""]
    pairs = [f"{source}:{target}" for source, target in shared]
    with (directory.parent / "boot.log").open("wb") as log:
        process = subprocess.Popen([*ties, *command[1:], *pairs], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        script = eventually(lambda: _child(process.pid))
        machine = Machine(cgroup, Path(f"/proc/{script}/root{directory}/upper"))
        machine.boot()
        yield machine
    finally:
        process.kill()
        process.wait()
        eventually(lambda: _removed(cgroup))


def _differs(one: Path, other: Path) -> bool:
    """Overlayfs copies a file up before it is written to; what was only touched is still the same."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() != other.is_symlink() or one.readlink() != other.readlink()
    return one.is_file() and (not other.is_file() or not filecmp.cmp(one, other, shallow=False))


def _child(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


def _removed(cgroup: Path) -> bool:
    """Whether the machine's cgroups could be removed: only what nobody lives in can."""
    try:
        for directory, _, _ in os.walk(cgroup, topdown=False):
            Path(directory).rmdir()
    except OSError:
        return False
    return True
