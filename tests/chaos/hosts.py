"""A host of a chaos run: a supervisor that is started again when it died, as systemd would, and its family."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from appliance.local.aws import CREDENTIALS
from appliance.local.server import tethered
from tests.chaos.scale import RESTART_SECONDS
from tests.shell import environment

#: Set in every process of a host; programs, whose environment is empty, are known by their working directory.
MARK = "CHAOS_HOST"
#: Under a name of its own where the kernel lets us; elsewhere all hosts share this machine's.
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')


@dataclass(frozen=True)
class Process:
    """One process of a host; `started` tells it from a later one with the same pid."""

    pid: int
    started: float
    role: str

    def line(self) -> list[int]:
        """Its PID and those of whoever it comes from, as far as they live."""
        with suppress(psutil.NoSuchProcess):
            return [self.pid, *(process.pid for process in psutil.Process(self.pid).parents())]
        return [self.pid]

    @property
    def alive(self) -> bool:
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            return found.create_time() == self.started and found.status() != psutil.STATUS_ZOMBIE
        return False

    def signal(self, number: int) -> bool:
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, number)
                return True
        return False


@dataclass
class Host:
    """`settings` is the whole configuration; scratch, runtime directory and log lie in `directory`."""

    name: str
    directory: Path
    settings: dict[str, Any]
    named: bool
    process: subprocess.Popen[bytes] | None = None
    restart_at: float = 0.0
    starts: int = 0
    #: Exit statuses of supervisors that ended without being killed.
    exits: list[int] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        return self.directory / "scratch"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    def prepare(self) -> None:
        self.scratch.mkdir(parents=True)
        self.settings["workspace"] = {**self.settings["workspace"], "directory": str(self.scratch)}
        (self.directory / "appliance.yaml").write_text(yaml.safe_dump(self.settings))

    def start(self) -> None:
        program = [sys.executable, "-m", "appliance", "run", "--config", str(self.directory / "appliance.yaml")]
        command = tethered(program, user_id=os.geteuid())  # however the run ends, no host outlives it
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*NAMED, self.name, *command] if self.named else command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,  # what starts ffmpeg has no environment to be known by
                env={
                    **environment(),
                    **CREDENTIALS,
                    "RUNTIME_DIRECTORY": str(self.directory / "run"),
                    MARK: str(self.directory),
                },
            )
        self.starts += 1

    def tend(self, now: float) -> None:
        """Reap a supervisor that ended, and start the next when its time has come."""
        if self.process is not None and self.process.poll() is not None:
            if self.process.returncode != -signal.SIGKILL:
                self.exits.append(self.process.returncode)
            self.process, self.restart_at = None, now + RESTART_SECONDS
        if self.process is None and now >= self.restart_at:
            self.start()

    def family(self) -> list[Process]:
        """The supervisor and everything below it."""
        if self.process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self.process.pid)
            found = [(supervisor, "supervisor"), *_below(supervisor)]
            return [made for process, role in found if (made := _seen(process, role))]
        return []

    def everything(self) -> list[Process]:
        """Every process of this host, whoever its parent is by now. Slow: it looks at the whole machine."""
        return [made for process in psutil.process_iter() if self._owns(process) and (made := _seen(process, "any"))]

    def stop(self, seconds: float) -> int | None:
        """SIGTERM; the exit status, or None when it had to be killed."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def _owns(self, process: psutil.Process) -> bool:
        place = str(self.directory)
        with suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return process.cwd().startswith(place) or process.environ().get(MARK) == place
        return False


def _seen(process: psutil.Process, role: str) -> Process | None:
    with suppress(psutil.NoSuchProcess):
        return Process(process.pid, process.create_time(), role)
    return None


def _below(supervisor: psutil.Process) -> Iterator[tuple[psutil.Process, str]]:
    """(process, role) of all descendants, by their place in the family."""
    children: dict[int, list[psutil.Process]] = {}
    for process in supervisor.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            children.setdefault(process.ppid(), []).append(process)
    for child in children.get(supervisor.pid, []):
        with suppress(psutil.NoSuchProcess):
            if "forkserver" not in " ".join(child.cmdline()):
                yield child, "tracker"
                continue
            yield child, "fork server"
        for encoder in children.get(child.pid, []):
            yield encoder, "encoder"
            for starter in children.get(encoder.pid, []):
                yield starter, "starter"
                for program in children.get(starter.pid, []):
                    yield program, "program"
                    yield from ((below, "below program") for below in children.get(program.pid, []))


def can_be_named() -> bool:
    """Whether a process may give itself another host name here."""
    return subprocess.run([*NAMED, "chaos", "true"], capture_output=True, check=False).returncode == 0


def eventually_gone(hosts: list[Host], seconds: float) -> list[Process]:
    """Processes of these hosts that are still there after that time."""
    deadline = time.monotonic() + seconds
    while left := [process for host in hosts for process in host.everything()]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.2)
    return []
