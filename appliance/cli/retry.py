"""`retry VIDEO…`: a FAILED or READY video goes back into the queue; finished chunks of a FAILED one are kept."""

from __future__ import annotations

import argparse
from typing import Any

from appliance.cli import exits, numbers, settings, terminal
from appliance.cli.services import Services
from appliance.domain.message import Message
from appliance.domain.video import Status

#: Why a video of this status is not put back, and what happens with it instead.
INSTEAD = {
    Status.PENDING: "is PENDING: its upload has not ended. If it has, `video-appliance submit VIDEO` hands it in.",
    Status.UPLOADED: "waits already.",
    Status.PROCESSING: "is being encoded already.",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=numbers.video, nargs="+", metavar="VIDEO", help="ids, as `list` shows them")


def main(options: argparse.Namespace) -> int:
    """0 when every one of them is in the queue now, else 1."""
    services = Services(settings.read(options))
    results = []
    for video_id in options.videos:
        results.append(result := put_back(services, video_id))
        if options.json:
            terminal.emit(result)
        else:
            terminal.say(f"Video {result['video_id']} {result['sentence']}")
    return exits.DONE if all(result["queued"] for result in results) else exits.NEGATIVE


def put_back(services: Services, video_id: int) -> dict[str, Any]:
    """Re-submit and ring; `queued` says whether the video waits for an encoder now."""
    resubmitted = services.leases.resubmit(video_id)
    found = services.reports.show(video_id)
    if found is None:
        sentence = "is unknown; `video-appliance list` shows the last ones."
        return {"video_id": video_id, "queued": False, "rung": False, "sentence": sentence}
    queued = found["status"] == Status.UPLOADED
    rung = queued and services.ring(Message(video_id, found["tenant_id"], found["file_key"] or ""))
    sentence = "is in the queue again." if resubmitted else INSTEAD.get(found["status"], f"is {found['status']}.")
    return {"video_id": video_id, "queued": queued, "rung": rung, "sentence": sentence}
