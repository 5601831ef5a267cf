"""What we tell systemd: sd_notify(3) over the socket it names, nothing without one; and what we ask it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping


class Notify:
    """Messages to the service manager. They are hints: one that cannot be sent is dropped, never an error."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watched = "WATCHDOG_USEC" in environment and environment.get("WATCHDOG_PID", str(os.getpid())) == str(
            os.getpid()
        )

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Feed the watchdog, when the unit has one."""
        if self._watched:
            self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for this much time from now on before a stop counts as hung (EXTEND_TIMEOUT_USEC)."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # sd_notify(3): a leading @ is an abstract socket, whose name starts with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gate:
            gate.setblocking(False)
            gate.sendto(message.encode(), address)


def main_pid(unit: str) -> int | None:
    """The main process of a unit; None when it does not run, or no systemd answers."""
    command = ["systemctl", "show", "--property=MainPID", "--value", unit]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return int(said) or None if said.isdigit() else None
