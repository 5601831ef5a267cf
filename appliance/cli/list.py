"""`list`: the newest videos, those that nobody has begun included."""

from __future__ import annotations

import argparse
from typing import Any

from appliance.cli import exits, numbers, settings, terminal
from appliance.cli.services import Services
from appliance.domain.video import Status

NAMES = ("video_id", "tenant_id", "status", "epoch", "started_at", "file_key")
#: Characters of a source or a reason on a terminal; `show` has the rest.
MOST = 80
COLUMNS = ("video>", "tenant>", "status", "try>", "began", "source", "about")


def arguments(parser: argparse.ArgumentParser) -> None:
    known = [str(status) for status in Status]
    parser.add_argument("--limit", type=numbers.amount, default=20, metavar="N", help="at most so many (default: 20)")
    parser.add_argument("--status", type=str.upper, choices=known, help="only videos of this status")


def main(options: argparse.Namespace) -> int:
    """By id, the newest first, each with its last attempt. With --json one object a line."""
    status = Status(options.status) if options.status else None
    videos = Services(settings.read(options)).reports.newest(options.limit, status)
    if options.json:
        for video in videos:
            terminal.emit(video)
        return exits.DONE
    terminal.table("videos", COLUMNS, ([*map(video.get, NAMES), _about(video)] for video in videos), most=MOST)
    if not videos:
        kind = f"No video is {status}." if status else "There is no video yet."
        terminal.say(f"{kind} `video-appliance submit FILE` makes one.")
    return exits.DONE


def _about(video: dict[str, Any]) -> str:
    """Why it failed, how long it plays, who has it, or how its last attempt ended."""
    match video["status"]:
        case Status.FAILED:
            return str(video["error_reason"] or "")
        case Status.READY:
            return f"plays {terminal.seconds(video['duration'])}"
        case Status.PROCESSING:
            return f"at {video['worker']}" if video["worker"] else ""
        case Status.PENDING:
            return "its upload has not ended"
        case _:
            return f"last attempt {video['outcome']}" if video["outcome"] else "never begun"
