"""One server program of the embedded stack: started, asked whether it answers, stopped by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance.domain.errors import Unavailable

#: A cold start on a busy machine with two cores takes a few seconds; this is where waiting ends.
START_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02


class Server:
    """A child process on a loopback port. It dies with the process, and with the thread, that started it.

    `answers` is asked until it is true; `stop_signal` is the polite one, `death_signal` what the kernel sends when the
    parent dies. The same command, and so the same port, is used by every start.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        answers: Callable[[], bool],
        log: Path,
        user_id: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._answers = answers
        self._user_id = os.geteuid() if user_id is None else user_id
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running server, None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start and wait until it answers; does nothing while it runs. Raises Unavailable when it ends instead."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start without waiting, so that several servers start side by side."""
        if self.pid is not None:
            return
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches only us, and we stop the servers in order.
            self._process = subprocess.Popen(
                tethered(self.command, user_id=self._user_id, death_signal=self._death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd="/",
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers. Raises Unavailable with the end of its log when it ends, or after a minute."""
        process = self._process
        assert process is not None, f"{self.name} was not launched"
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            raise Unavailable(self.name, f"the embedded {self.name} did not start:\n{self._last_lines()}")

    def stop(self) -> None:
        """Ask it to end, wait, and kill it when it does not; does nothing when it does not run."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End it without notice, as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])


def tethered(command: list[str], *, user_id: int, death_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command that runs `command` under its own process id, as that user, until this process ends."""
    tether = [sys.executable, "-I", "-S", str(Path(__file__).with_name("tether.py"))]
    return [*tether, str(os.getpid()), str(int(death_signal)), str(user_id), *command]


def environment() -> dict[str, str]:
    """What a server inherits: no coverage measurement, no AWS account, plain messages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE", "COV_", "AWS_"))}
    return {**kept, "LC_ALL": "C.UTF-8", "AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}
