"""Programs that wait for each other: what runs them one after another never gets past the first."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from appliance.adapters.ffmpeg.run import Ended, run

PATIENCE_SECONDS = 30


def two_at_once(monkeypatch: pytest.MonkeyPatch, module: str, word: str) -> None:
    """What `module` runs with this word in its command begins when two of it are asked for; one alone raises."""
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def waiting(command: list[str], **options: Any) -> Ended:
        if word in command:
            both.wait()
        return run(command, **options)

    monkeypatch.setattr(f"{module}.run", waiting)
