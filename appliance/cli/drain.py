"""`drain`: this host's service takes no more work, finishes or hands over what it has, and ends.

What `systemctl stop` does, with its progress, and also for a service that systemd does not run. It stays stopped until
it is started, or the host boots.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from appliance.adapters import systemd
from appliance.cli import exits, settings, supervisor, terminal
from appliance.domain.errors import ApplianceError

TURN_SECONDS = 0.5
AGAIN = "`sudo systemctl start video-appliance` lets it work again."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="hand everything over at its last finished chunk")
    parser.add_argument("--no-wait", action="store_true", help="ask, and do not wait for the end")


def main(options: argparse.Namespace) -> int:
    """0 when it has ended (or, with --no-wait, was asked). Ctrl-C ends the wait and not the drain."""
    port = settings.read_or_default(options).web.port
    pid, process = _running(port)
    began = time.monotonic()
    try:
        # SIGINT is what the supervisor takes for "release at once" (supervisor/process.py).
        signal.pidfd_send_signal(process, signal.SIGINT if options.now else signal.SIGTERM)
        if not options.no_wait:
            _wait(process, port)
    except ProcessLookupError:
        pass  # it ended between our look and our word
    except PermissionError:
        hint = "sudo video-appliance drain"
        raise ApplianceError("Only root and the service's own user may drain it.", hint=hint) from None
    finally:
        os.close(process)
    _tell(options, pid, time.monotonic() - began)
    return exits.DONE


def _running(port: int) -> tuple[int, int]:
    """(pid, pidfd) of the supervisor that answers on our port, else of the unit's main process."""
    service = supervisor.look(port)
    for pid in ((service or {}).get("pid"), systemd.main_pid("video-appliance.service")):
        # Whoever holds the port may say any number: only a process that is an appliance is signalled.
        if pid and (process := _opened(pid)) is not None:
            if b"appliance" in _command(pid):
                return pid, process
            os.close(process)
    hint = "`systemctl status video-appliance` says whether one should. With --config FILE its web.port is asked."
    raise ApplianceError("No supervisor runs on this host.", code="not_running", hint=hint)


def _opened(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _wait(process: int, port: int) -> None:
    """Until the process ends, saying what it still does: on a terminal in place, else a line for each change."""
    told = ""
    with terminal.console(stderr=True).status("draining") as spinner:
        while not select.select([process], [], [], TURN_SECONDS)[0]:
            doing = progress(supervisor.look(port))
            spinner.update(terminal.line(doing))
            if doing != told and not terminal.on_terminal():
                sys.stderr.write(f"{doing}\n")
            told = doing


def progress(service: dict[str, Any] | None) -> str:
    """What a draining supervisor still has in hand, without figures that change each second."""
    working = [slot for slot in (service or {"slots": []})["slots"] if slot["video_id"] is not None]
    return "; ".join(map(_doing, working)) or "nothing in hand any more, ending"


def _doing(slot: dict[str, Any]) -> str:
    percent = "" if slot["percent"] is None else f" at {slot['percent']:.0f} %"
    bound = slot.get("leaves_in_seconds")
    left = "" if bound is None else f", handed over in {terminal.seconds(10 * -(-bound // 10))} at the latest"
    return f"slot {slot['slot']}: video {slot['video_id']}{percent}{left}"


def _tell(options: argparse.Namespace, pid: int, seconds: float) -> None:
    if options.json:
        terminal.emit({"pid": pid, "ended": not options.no_wait, "seconds": round(seconds, 1)})
    elif options.no_wait:
        terminal.say(f"Asked process {pid} to drain.\n  → `video-appliance top` shows how far it is.")
    else:
        terminal.say(f"Drained: process {pid} ended after {terminal.seconds(seconds)}.\n  → {AGAIN}")
