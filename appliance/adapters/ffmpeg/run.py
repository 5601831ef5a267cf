"""Run one ffmpeg or ffprobe: its own process group, both pipes always drained, watched, and certainly ended."""

from __future__ import annotations

import os
import re
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from appliance.adapters.ffmpeg import sandbox
from appliance.adapters.ffmpeg.starter import Exit, Starter, Starters
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
    #: What is kept from one program to the next.
    starters: Starters = field(default_factory=Starters, compare=False)


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
    """Several programs as one: their seconds added up, the first one's status and words."""
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
    program = Path(command[0]).name
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

    with _started(command, directory, limits) as (starter, stdout, stderr), selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ, _Lines(stdout_line))
        selector.register(stderr, selectors.EVENT_READ, _Lines(stderr_line))
        while selector.get_map():
            _drain(selector)
            check()
            _refuse_standstill(program, watch, started, limits)
        ended = _reap(starter, check, started, limits)
    if not ended.started:  # never to be taken for a word of the program about its input
        raise Transient(f"{program} could not be started in its sandbox.", details=" / ".join(tail))
    if -ended.status in FROM_OUTSIDE:  # half a list of packets would be taken for a short recording
        raise Transient(f"{program} was killed by signal {-ended.status}.", details=" / ".join(tail))
    return Ended(
        status=ended.status,
        stderr=tuple(tail),
        cpu_seconds=ended.cpu_seconds,
        wall_seconds=time.monotonic() - started,
        peak_memory_bytes=ended.peak_memory_bytes,
        reconfigured=reconfigured,
    )


@contextmanager
def _started(command: list[str], directory: Path, limits: Limits) -> Iterator[tuple[Starter, int, int]]:
    """The program in its own process group, which is killed and reaped whatever is raised inside: its starter, and the
    descriptors of its stdout and stderr.
    """
    caged = sandbox.caged(command, limits.cage, limits.memory_bytes)
    with (
        limits.starters.borrowed(sandbox.environment()) as starter,
        starter.start(directory, caged) as (stdout, stderr),
    ):
        yield starter, stdout, stderr


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


def _refuse_standstill(program: str, watch: Watch, started: float, limits: Limits) -> None:
    now = time.monotonic()
    if now - started > limits.deadline_seconds:
        raise Transient(f"{program} was still running after {limits.deadline_seconds:.0f} s.", code="encode_stalled")
    if now - watch.moved_at > limits.stall_seconds:
        raise Transient(f"{program} made no progress for {limits.stall_seconds:.0f} s.", code="encode_stalled")


def _reap(starter: Starter, check: Check, started: float, limits: Limits) -> Exit:
    """Wait for the end of a program that has closed both its pipes."""
    while (ended := starter.ended(POLL_SECONDS)) is None:
        check()
        if time.monotonic() - started > limits.deadline_seconds:
            raise Transient("The program closed its output but did not end.", code="encode_stalled")
    return ended
