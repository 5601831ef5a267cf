"""What starts programs in their cage: a small process with one thread, kept for the next program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from appliance.adapters.ffmpeg import cage
from appliance.domain.errors import Transient

SERVE = "import sys; sys.path.append(sys.argv[1]); import cage; cage.serve(int(sys.argv[2]))"

#: How long a starter may take to kill its program and end.
END_SECONDS = 5


@dataclass(frozen=True)
class Exit:
    """How a program ended. `started`: it ran at all; a negative status is the signal that killed it."""

    started: bool
    status: int
    cpu_seconds: float
    peak_memory_bytes: int


class Starter:
    """Runs one program at a time. When it is closed, or we die, the program's process group is killed with it."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment` is all that the programs get."""
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", SERVE, str(Path(cage.__file__).parent), str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for us: we say when programs end
            )
        #: Also when nobody has it any more, and when the interpreter ends.
        self.close = weakref.finalize(self, _end, self._ours, self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    @contextmanager
    def start(self, directory: Path, arguments: list[str]) -> Iterator[tuple[int, int]]:
        """The program's stdout and stderr, to be read to their ends; `arguments` as `sandbox.caged` makes them.

        Raises Transient when the starter was killed.
        """
        text = "\0".join([str(directory), *arguments]).encode(errors="surrogateescape")
        with ExitStack() as reading, ExitStack() as writing:
            pipes = []
            for _ in range(2):
                ours, theirs = os.pipe()
                reading.callback(os.close, ours)
                writing.callback(os.close, theirs)
                pipes.append((ours, theirs))
            self._ours.settimeout(None)
            try:
                socket.send_fds(self._ours, [cage.HEAD.pack(len(text))], [theirs for _, theirs in pipes])
                self._ours.sendall(text)
            except OSError as error:
                raise _killed() from error
            writing.close()
            yield pipes[0][0], pipes[1][0]

    def ended(self, seconds: float) -> Exit | None:
        """How the program ended, None while it has not. Raises Transient when the starter was killed."""
        self._ours.settimeout(seconds)
        try:
            answer = self._ours.recv(cage.ENDED.size)
        except TimeoutError:
            return None
        except OSError as error:
            raise _killed() from error
        if len(answer) < cage.ENDED.size:
            raise _killed()
        started, status, cpu_seconds, peak_kilobytes = cage.ENDED.unpack(answer)
        return Exit(started, status, cpu_seconds, peak_kilobytes * 1024)


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """It kills its program and ends by itself; where it does not, it is killed, and the program dies with it."""
    ours.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _killed() -> Transient:
    return Transient("The process that starts ffmpeg was killed.", code="encode_failed")


class Starters:
    """Those that are idle, for all threads of a process."""

    def __init__(self) -> None:
        self._idle: list[Starter] = []

    @contextmanager
    def borrowed(self, environment: dict[str, str]) -> Iterator[Starter]:
        """One that nobody else uses meanwhile: an idle one, or a new one. It is kept, unless something was raised."""
        starter = self._kept() or Starter(environment)
        try:
            yield starter
        except BaseException:
            starter.close()
            raise
        self._idle.append(starter)

    def _kept(self) -> Starter | None:
        while self._idle:
            try:
                starter = self._idle.pop()
            except IndexError:  # another thread took it
                return None
            if starter.lives:
                return starter
            starter.close()
        return None
