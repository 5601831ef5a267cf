"""`show VIDEO`: everything that is known about one video."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from appliance.cli import exits, numbers, receipts, settings, terminal
from appliance.cli.follow import progress
from appliance.cli.services import Services
from appliance.domain.errors import ApplianceError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=numbers.video, metavar="VIDEO", help="an id, as `list` shows them")


def main(options: argparse.Namespace) -> int:
    """1 when there is no such video. Redis may be down: then only the live progress is missing."""
    services = Services(settings.read(options))
    found = services.reports.show(options.video)
    if found is None:
        hint = "`video-appliance list` shows the last ones."
        raise ApplianceError(f"There is no video {options.video}.", code="unknown_video", hint=hint)
    live = progress(services, found)
    if options.json:
        terminal.emit({**found, "progress": live})
        return exits.DONE
    _tell(found, live)
    return exits.DONE


def _tell(found: dict[str, Any], live: dict[str, Any] | None) -> None:
    row = {name: value for name, value in found.items() if name not in ("attempts", "chunks")}
    terminal.facts(f"video {row.pop('video_id')}", row)
    if live:
        terminal.facts("progress", _progress(live))
    _attempts(found["attempts"])
    for attempt in found["attempts"]:
        if attempt["receipt"]:
            receipts.show(attempt["receipt"], f"receipt of attempt {attempt['epoch']}")
    chunks = Counter(chunk["state"] for chunk in found["chunks"])
    if chunks:
        terminal.facts("chunks", dict(sorted(chunks.items())))


def _progress(live: dict[str, Any]) -> dict[str, Any]:
    """As a person reads it; with --json it is as it lies in Redis."""
    speed, left = live.get("speed"), live.get("remaining_seconds")
    return {
        "percent": f"{live.get('percent')} %",
        "step": f"{live.get('step')} ({live.get('step_index')} of {live.get('step_total')})",
        "speed": "" if speed is None else f"{speed:.1f} × as fast as it plays",
        "left": terminal.seconds(left),
    }


def _attempts(attempts: list[dict[str, Any]]) -> None:
    columns = ("epoch>", "worker", "started", "ended", "outcome", "reason")
    names = ("epoch", "worker", "started_at", "ended_at", "outcome", "error_reason")
    if attempts:
        terminal.table("attempts", columns, [[attempt.get(name) for name in names] for attempt in attempts])
