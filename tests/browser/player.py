"""A real browser: streams played in it to their end by the players that platforms use, and pages looked at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
PACKAGES = ("playwright-core", "hls.js", "shaka-player", "dashjs")
#: For all plays of one call; a play's own deadline is shorter.
DEADLINE_SECONDS = 500


def play(site: str, player: str, **what: Any) -> dict[str, Any]:
    """What happened when the stream at `site` was played. Skips where browser or packages are missing."""
    return play_all([{"site": site, "player": player, **what}])[0]


def play_all(plays: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same for several in one browser, some of them at once (see play.mjs for what a play takes)."""
    return in_chromium("play.mjs", plays, PACKAGES)


def in_chromium(program: str, work: list[dict[str, Any]], packages: tuple[str, ...]) -> list[dict[str, Any]]:
    """What a program of this directory reports of each piece of work."""
    node, modules = shutil.which("node"), Path(os.environ.get("BROWSER_MODULES") or HERE / "node_modules")
    if not CHROMIUM.exists() or node is None:
        pytest.skip("chromium or node is not installed")
    if missing := [name for name in packages if not (modules / name).is_dir()]:
        pytest.skip(f"{', '.join(missing)} not installed (npm ci in tests/browser)")
    done = subprocess.run(
        [node, str(HERE / program), str(modules)],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
