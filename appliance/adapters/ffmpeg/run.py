"""Run one ffmpeg or ffprobe: its own process group, both pipes always drained, watched, and certainly ended."""

from __future__ import annotations

import os
import re
import resource
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from appliance.adapters.ffmpeg import cage, sandbox
from appliance.domain.errors import Transient

#: How often a running program is looked at: a lost lease ends it at most this much later.
POLL_SECONDS = 0.25
#: Lines of stderr kept for the log.
TAIL_LINES = 200
#: Where in its memory whoever speaks lies, `[mov @ 0x55d0c8]`: it tells nobody anything, and no two runs say the same.
ADDRESS = re.compile(r" @ 0x[0-9a-f]+(?=\])")
#: What ffmpeg says when a stream changes its format.
RECONFIGURED = "Reconfiguring filter graph"
#: A line longer than this is cut: damaged files make programs print garbage without newlines.
LINE_BYTES = 8192
#: Ends that say nothing about the input: the kernel was short of memory, or somebody had a shell.
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}

Line = Callable[[str], None]
Check = Callable[[], None]


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes; `stall_seconds` counts while the output time stands still."""

    deadline_seconds: float
    stall_seconds: float
    memory_bytes: int
    cage: sandbox.Cage = field(default_factory=sandbox.Cage)


@dataclass(frozen=True)
class Ended:
    """How a program ended. CPU seconds are those of the program and its children; memory is its largest RSS."""

    status: int
    stderr: tuple[str, ...]
    cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    #: The stream changed its format in the middle, and the filters began anew.
    reconfigured: bool = False

    @property
    def last_words(self) -> str:
        return " / ".join(self.stderr[-3:])[-500:]


def together(runs: list[Ended]) -> Ended:
    """Several programs as one, one after another; the first one's status and words."""
    return replace(
        runs[0],
        cpu_seconds=sum(ended.cpu_seconds for ended in runs),
        wall_seconds=sum(ended.wall_seconds for ended in runs),
        peak_memory_bytes=max(ended.peak_memory_bytes for ended in runs),
    )


class Watch:
    """Notices when the program has moved: any `key=value` progress line whose value grows, or any other line."""

    def __init__(self) -> None:
        self.moved_at = time.monotonic()
        self._furthest: dict[str, float] = {}

    def see(self, line: str) -> None:
        key, equals, value = line.partition("=")
        if not equals:
            self.moved_at = time.monotonic()
        elif key in ("frame", "out_time_us", "total_size"):
            number = float(value) if value.strip().lstrip("-").isdigit() else 0.0
            if number > self._furthest.get(key, 0.0):
                self._furthest[key] = number
                self.moved_at = time.monotonic()


def run(command: list[str], *, directory: Path, limits: Limits, check: Check, on_line: Line | None = None) -> Ended:
    """Run to its end and return how it ended, whatever its status.

    `on_line` sees each line of stdout. `check` is called every POLL_SECONDS; what it raises (LeaseLost, Cancelled,
    Draining) kills the program and passes through. Raises Transient `encode_stalled` past the deadline or a stall
    (F33), and `encode_failed` when the program could not be started in its cage or was killed from outside.
    """
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    watch = Watch()
    reconfigured = False

    def stderr_line(line: str) -> None:
        nonlocal reconfigured
        reconfigured |= RECONFIGURED in line
        tail.append(ADDRESS.sub("", line))

    def stdout_line(line: str) -> None:
        watch.see(line)
        if on_line is not None:
            on_line(line)

    with _started(command, directory, limits) as (process, ready), selectors.DefaultSelector() as selector:
        assert process.stdout is not None
        assert process.stderr is not None
        selector.register(process.stdout, selectors.EVENT_READ, _Lines(stdout_line))
        selector.register(process.stderr, selectors.EVENT_READ, _Lines(stderr_line))
        while selector.get_map():
            _drain(selector)
            check()
            _refuse_standstill(command, watch, started, limits)
        status, usage = _reap(process, check, started, limits)
        if os.read(ready, 2) != cage.READY:  # never to be taken for a word of the program about its input
            raise Transient(f"{Path(command[0]).name} could not be started in its sandbox.", details=" / ".join(tail))
        if -status in FROM_OUTSIDE:  # half a list of packets would be taken for a short recording
            raise Transient(f"{Path(command[0]).name} was killed by signal {-status}.", details=" / ".join(tail))
    return Ended(
        status=status,
        stderr=tuple(tail),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        wall_seconds=time.monotonic() - started,
        peak_memory_bytes=usage.ru_maxrss * 1024,
        reconfigured=reconfigured,
    )


@contextmanager
def _started(command: list[str], directory: Path, limits: Limits) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program in its own process group, which is killed and reaped whatever happens inside.

    With it the descriptor that says, once it has ended, whether it was started at all.
    """
    ready, writing = os.pipe()
    try:
        process = subprocess.Popen(
            sandbox.caged(command, limits.cage, limits.memory_bytes, writing),
            cwd=directory,
            env=sandbox.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(writing,),
        )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(writing)
    try:
        yield process, ready
    finally:
        os.close(ready)
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


class _Lines:
    """Cuts a stream of bytes into lines and hands them on."""

    def __init__(self, take: Line) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines.append(self._rest[:LINE_BYTES])
            self._rest = b""
        for line in lines:
            self._take(line[:LINE_BYTES].decode(errors="replace"))

    def end(self) -> None:
        if self._rest:
            self._take(self._rest.decode(errors="replace"))


def _drain(selector: selectors.BaseSelector) -> None:
    for key, _ in selector.select(POLL_SECONDS):
        data = os.read(key.fd, 1 << 16)
        if data:
            key.data.feed(data)
        else:
            key.data.end()
            selector.unregister(key.fileobj)


def _refuse_standstill(command: list[str], watch: Watch, started: float, limits: Limits) -> None:
    now = time.monotonic()
    program = Path(command[0]).name
    if now - started > limits.deadline_seconds:
        raise Transient(f"{program} was still running after {limits.deadline_seconds:.0f} s.", code="encode_stalled")
    if now - watch.moved_at > limits.stall_seconds:
        raise Transient(f"{program} made no progress for {limits.stall_seconds:.0f} s.", code="encode_stalled")


def _reap(
    process: subprocess.Popen[bytes], check: Check, started: float, limits: Limits
) -> tuple[int, resource.struct_rusage]:
    """Wait for the end of a program that has closed both its pipes."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        check()
        if time.monotonic() - started > limits.deadline_seconds:
            raise Transient("The program closed its output but did not end.", code="encode_stalled")
        time.sleep(0.005)
