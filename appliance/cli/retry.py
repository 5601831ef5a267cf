"""`retry VIDEO…`: a FAILED or READY video goes back into the queue; finished chunks of a FAILED one are kept."""

from __future__ import annotations

import argparse
from typing import Any

from appliance.cli import exits, settings, terminal
from appliance.cli.services import Services
from appliance.domain.message import Message
from appliance.domain.video import Status

#: Why a video of this status is not put back, and what happens with it instead.
INSTEAD = {
    Status.PENDING: "is PENDING: its upload has not ended. If it has, `video-appliance submit VIDEO` hands it in.",
    Status.UPLOADED: "waits already; its bell was rung once more.",
    Status.PROCESSING: "is being encoded already.",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", type=int, nargs="+", metavar="VIDEO", help="ids, as `list` shows them")


def main(options: argparse.Namespace) -> int:
    """0 when every one of them is in the queue now, else 1."""
    services = Services(settings.read(options))
    results = [put_back(services, video_id) for video_id in options.videos]
    for result in results:
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
        return {"video_id": video_id, "queued": False, "sentence": "is unknown; `list` shows the last ones."}
    queued = found["status"] == Status.UPLOADED
    if queued:
        services.doorbell.ring(Message(video_id, found["tenant_id"], found["file_key"] or ""))
    sentence = "is in the queue again." if resubmitted else INSTEAD.get(found["status"], f"is {found['status']}.")
    return {"video_id": video_id, "queued": queued, "sentence": sentence}
