"""`list`: what was worked on last."""

from __future__ import annotations

import argparse
from typing import Any

from appliance.cli import exits, settings, terminal
from appliance.cli.services import Services

NAMES = ("video_id", "tenant_id", "status", "epoch", "outcome", "started_at", "file_key")
COLUMNS = ("video>", "tenant>", "status", "attempt>", "outcome", "began", "source", "about")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")


def main(options: argparse.Namespace) -> int:
    """The newest attempts, latest first; `status` counts what waits for its first. With --json one object a line."""
    videos = Services(settings.read(options)).reports.recent(options.limit)
    if options.json:
        for video in videos:
            terminal.emit(video)
        return exits.DONE
    terminal.table("attempts", COLUMNS, map(_row, videos))
    if not videos:
        terminal.say("Nothing was worked on yet. `video-appliance submit FILE` gives it something.")
    return exits.DONE


def _row(video: dict[str, Any]) -> list[Any]:
    """What matters about it: why it failed, how long it plays, or who has it."""
    about = video["error_reason"] or terminal.seconds(video["duration"]) or video["worker"]
    return [*map(video.get, NAMES), about]
