"""A stream played in a real browser, to its end."""

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


def play(site: str, player: str) -> dict[str, Any]:
    """What happened when `site`master.m3u8 was played (see play.mjs). Skips where browser or packages are missing."""
    node, modules = shutil.which("node"), Path(os.environ.get("BROWSER_MODULES") or HERE / "node_modules")
    if not CHROMIUM.exists() or node is None:
        pytest.skip("chromium or node is not installed")
    if not (modules / "playwright-core").is_dir() or not (modules / "hls.js").is_dir():
        pytest.skip("playwright-core and hls.js are not installed (npm ci in tests/browser)")
    done = subprocess.run(
        [node, str(HERE / "play.mjs"), str(modules), site, player],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
