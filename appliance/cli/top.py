"""`top`: this host at work, drawn anew each second from what its supervisor says; no dependency need answer."""

from __future__ import annotations

import argparse
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from appliance.cli import exits, settings, supervisor, terminal

TURN_SECONDS = 1.0
NOBODY = "No supervisor answers on 127.0.0.1:{port} (web.port)."
HINT = "`systemctl status video-appliance` says why; `video-appliance status` asks the database and the others itself."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print it once; what a pipe or --json gets anyway")


def main(options: argparse.Namespace) -> int:
    """Until q or Ctrl-C. Once: 69 when no supervisor answers here, or something does not answer it."""
    port = settings.read_or_default(options).web.port
    if not (options.once or options.json) and sys.stdout.isatty():
        return _watch(port)
    service = supervisor.look(port)
    if options.json:
        terminal.emit({"service": service})
    else:
        terminal.console().print(screen(service, port))
    down = service is None or any(seen["up"] is False for seen in service["dependencies"].values())
    return exits.UNAVAILABLE if down else exits.DONE


def screen(service: dict[str, Any] | None, port: int) -> Group:
    """Everything that is drawn; `service` is the supervisor's status.json."""
    if service is None:
        return Group(terminal.line(NOBODY.format(port=port), style="bold red"), terminal.line(f"  → {HINT}"))
    lines = [terminal.line(_headline(service), style="bold"), _backlog(service)]
    worries = [terminal.line(f"! {sentence}", style="bold red") for sentence in supervisor.worries(service)]
    return Group(*lines, terminal.drawn_table(*supervisor.encoders(service)), *worries)


def _headline(service: dict[str, Any]) -> str:
    states = [slot["state"] for slot in service["slots"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"
    leaving = " · draining" if service["draining"] else ""
    return f"{service['host']} · up {terminal.seconds(service['uptime_seconds'])} · encoders: {counts}{leaving}"


def _backlog(service: dict[str, Any]) -> Text:
    backlog, oldest = service["backlog"], service["oldest_due_seconds"]
    if backlog is None:
        return terminal.line("The backlog is unknown: PostgreSQL has not told it yet.", style="yellow")
    counts = f"waiting {backlog['UPLOADED']}, encoding {backlog['PROCESSING']} (all hosts)"
    waited = f", the oldest due for {terminal.seconds(oldest)}" if oldest is not None else ""
    return terminal.line(f"{counts}{waited}; as of {terminal.seconds(service['backlog_age_seconds'])} ago")


def _watch(port: int) -> int:
    def draw() -> Group:
        return Group(screen(supervisor.look(port), port), terminal.line("q leaves", style="dim"))

    with _keys() as key, suppress(KeyboardInterrupt), Live(draw(), console=terminal.console(), screen=True) as live:
        while key(TURN_SECONDS) not in ("q", "Q"):
            live.update(draw(), refresh=True)
    return exits.DONE


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and returns it, or nothing; the terminal is left as it was."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        # An end of input is a terminal that was closed: nobody looks any more.
        return (os.read(descriptor, 1).decode(errors="replace") or "q") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    threading.Event().wait(seconds)
    return ""
