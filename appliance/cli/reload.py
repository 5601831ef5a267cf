"""`reload`: what `ExecReload=` of the unit runs; people say `systemctl reload video-appliance`."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from appliance.cli import exits, terminal
from appliance.domain.errors import ApplianceError, ConfigError
from appliance.supervisor.reload import Answer

#: The supervisor's loop turns once a second.
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """Raises ConfigError with what the supervisor found wrong; its old settings stay then."""
    directory, process = os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("MAINPID", "")
    if not directory or not process.isdigit():
        raise ApplianceError("Only systemd knows whom to ask.", hint="sudo systemctl reload video-appliance")
    answer = Answer(Path(directory.split(":")[0]))
    answer.clear()
    os.kill(int(process), signal.SIGHUP)
    told = _wait(answer)
    if problems := told.pop("problems"):
        raise ConfigError(problems)
    if options.json:
        terminal.emit(told)
    else:
        for when, names in told.items():
            terminal.say(f"reloaded, {when.replace('_', ' ')}: {', '.join(names) or 'nothing'}")
    return exits.DONE


def _wait(answer: Answer) -> dict[str, list[str]]:
    pause = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / LOOK_SECONDS)):
        if (told := answer.read()) is not None:
            return told
        pause.wait(LOOK_SECONDS)
    raise ApplianceError("The supervisor did not answer.", hint="journalctl -u video-appliance says what it is at.")
