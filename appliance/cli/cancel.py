"""`cancel VIDEO…`: an UPLOADED video ends at once, a PROCESSING one within one renewal of its owner."""

from __future__ import annotations

import argparse

from appliance.cli import exits, numbers, settings, terminal
from appliance.cli.services import Services

#: What Leases.cancel answers → what it means.
SENTENCES = {
    "cancelled": "was cancelled.",
    "requested": "is marked; its encoder stops within one renewal (lease.renew_seconds).",
    "ignored": "was not cancelled: nobody waits for it or works on it.",
    "unknown": "is unknown; `video-appliance list` shows the last ones.",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=numbers.video, nargs="+", metavar="VIDEO", help="ids, as `list` shows them")


def main(options: argparse.Namespace) -> int:
    """0 when every one of them was waiting or running, else 1."""
    leases = Services(settings.read(options)).leases
    answers = set()
    for video_id in options.videos:
        answers.add(answer := leases.cancel(video_id))
        if options.json:
            terminal.emit({"video_id": video_id, "answer": answer})
        else:
            terminal.say(f"Video {video_id} {SENTENCES[answer]}")
    return exits.DONE if answers <= {"cancelled", "requested"} else exits.NEGATIVE
