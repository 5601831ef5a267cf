"""The real supervisor as a process of the demo: started as systemd starts it, ended by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from appliance.domain.errors import ApplianceError
from appliance.local.server import tethered

#: For a drain, and again after the second SIGTERM, which releases at once.
STOP_SECONDS = 15.0
LAST_LINES = 10


class Service:
    """`with Service(…)` runs it. Should this process be killed, it is killed too: its database went the same way."""

    def __init__(self, config: Path, directory: Path) -> None:
        """`directory` takes its log and its temporary files."""
        self._config = config
        self._directory = directory
        self._log = directory / "supervisor.log"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "appliance", "run", "--config", str(self._config)]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches only the demo, which ends things in order.
            self._process = subprocess.Popen(
                tethered(command, user_id=os.geteuid()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # What a killed process leaves there goes with the stack.
                env={**os.environ, "TMPDIR": str(self._directory)},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return

    def check(self) -> None:
        """Raises ApplianceError with the end of its log when it does not run any more."""
        status = self._process.poll()
        if status is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
            raise ApplianceError("\n".join([f"The supervisor ended with status {status}:", *lines]))
