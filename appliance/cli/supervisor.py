"""The supervisor of this host, as it tells about itself over loopback (supervisor/web/shape.py)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from appliance.cli import terminal

#: It is on this host and answers in milliseconds, or not at all.
LOCAL_SECONDS = 2.0
COLUMNS = ("slot>", "state", "for", "video>", "percent>", "step", "chunk>", "speed>", "left")


def look(port: int) -> dict[str, Any] | None:
    """Its status.json; None when no supervisor answers on this port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=LOCAL_SECONDS) as answer:
            found = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "slots" in found else None


def encoders(service: dict[str, Any]) -> tuple[str, tuple[str, ...], list[tuple[Any, ...]]]:
    """Title, columns and rows of the table of its slots."""
    return "encoders of this host", COLUMNS, [_slot(slot) for slot in service["slots"]]


def worries(service: dict[str, Any]) -> Iterator[str]:
    """What it says is wrong: why it takes no work, notices, who does not answer it."""
    yield from (*service["unready"], *service["notices"].values())
    for name, seen in service.get("dependencies", {}).items():
        if seen["up"] is False:
            hint = f" → {seen['hint']}" if seen["hint"] else ""
            yield f"{name} has been down for {terminal.seconds(seen['since_seconds'])}: {seen['error']}{hint}"


def _slot(slot: dict[str, Any]) -> tuple[Any, ...]:
    percent = "" if slot["percent"] is None else f"{slot['percent']:.0f} %"
    speed = "" if slot["speed"] is None else f"{slot['speed']:.1f}×"
    since, left = terminal.seconds(slot["since_seconds"]), terminal.seconds(slot["remaining_seconds"])
    work = (slot["video_id"], percent, slot["step"], slot.get("chunk"), speed, left)
    return slot["slot"], slot["state"], since, *work
