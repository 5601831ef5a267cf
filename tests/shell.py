"""`video-appliance …` as people and scripts run it: its status and its output.

`appliance` runs a command line in this process, against real services, because an interpreter and boto3 take a second
to start; `process` runs it as a program, for what only a process has. Either
holds what `--json` prints against its shape.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from appliance.__main__ import main
from tests.shapes import hold

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What `--json` printed, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.objects[-1]


def appliance(*arguments: object) -> Ran:
    """Run one command line here; what it did to this process's log is undone."""
    out, err = io.StringIO(), io.StringIO()
    with _own_log(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*map(str, arguments)])
    return _held(arguments, Ran(status, out.getvalue(), err.getvalue()))


def process(*arguments: object, timeout: float = 120) -> Ran:
    """Run one command line as a program, to its end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=timeout, env=environment()
    )
    return _held(arguments, Ran(done.returncode, done.stdout, done.stderr))


def _held(arguments: tuple[object, ...], ran: Ran) -> Ran:
    """Whatever a test asks with --json, the answer has its verb's shape."""
    if "--json" in arguments:
        hold(arguments, ran.out)
    return ran


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "appliance", *map(str, arguments)]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with the package importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **(changes or {})}


@contextlib.contextmanager
def _own_log() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
