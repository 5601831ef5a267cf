"""CPU time of whole process trees, from the kernel's own accounting.

`metered` runs a program under a small parent that adopts every orphan of its tree (PR_SET_CHILD_SUBREAPER) and waits
for all of them, so that RUSAGE_CHILDREN knows each process that ever was. `living` asks a tree that goes on (proc(5)).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from tests.shell import environment

PR_SET_CHILD_SUBREAPER = 36
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Spent:
    """What a program and everything below it took, in seconds. It ended with `status`."""

    cpu_seconds: float
    wall_seconds: float
    status: int = 0


def metered(command: Iterable[object], report: Path) -> list[str]:
    """The command below its meter, which hands on signals and its exit status and writes `report` at the very end."""
    return [sys.executable, "-c", "from tests.benchmarks import cpu; cpu.meter()", str(report), *map(str, command)]


def read(report: Path) -> Spent:
    return Spent(**json.loads(report.read_text()))


def run(command: Iterable[object], *, cwd: Path | None = None, cores: Iterable[int] = ()) -> Spent:
    """Run to its end, kept to these cores. Raises CalledProcessError with what it said."""
    with tempfile.TemporaryDirectory(prefix="cpu-") as directory:
        report, words = Path(directory, "report"), Path(directory, "words")
        with words.open("wb") as errors:
            process = subprocess.Popen(
                metered(command, report), cwd=cwd, env=environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
            if pinned := set(cores):
                os.sched_setaffinity(process.pid, pinned)
            status = process.wait()
        if status != 0:
            raise subprocess.CalledProcessError(status, list(map(str, command)), stderr=words.read_text()[-2000:])
        return read(report)


def meter() -> NoReturn:
    """`report command…`, in the process that `metered` names."""
    report, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)

    def hand_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in SIGNALS:
        signal.signal(number, hand_on)
    status, wall = 0, 0.0
    with contextlib.suppress(ChildProcessError):  # once there are none left
        while True:
            ended, how = os.wait()
            if ended == pid:
                status, wall = os.waitstatus_to_exitcode(how), time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = {"cpu_seconds": usage.ru_utime + usage.ru_stime, "wall_seconds": wall, "status": status}
    Path(report).write_text(json.dumps(spent))
    sys.exit(status if status >= 0 else 128 - status)


def living(pid: int, *, itself: bool = True) -> float:
    """CPU seconds so far of the process (unless not `itself`), of all below it and of those that they waited for."""
    total = 0.0
    for process in below(pid, itself=itself):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def below(pid: int, *, itself: bool = True) -> list[psutil.Process]:
    """The tree's processes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [*([top] if itself else []), *top.children(recursive=True)]
    return []
