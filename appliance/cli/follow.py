"""Watching one video until it is READY or FAILED: its status from the row, its progress from Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from appliance.cli.bar import Bar
from appliance.cli.services import Services
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.domain.video import Status

LOOK_SECONDS = 0.5


def follow(services: Services, video_id: int, bar: Bar, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """What `Reports.show` says about the video once it has ended. `check` may raise to stop the watch."""
    pause = threading.Event()
    while True:
        found = services.reports.show(video_id)
        if found is None:
            raise ApplianceError(f"Video {video_id} is not in the table any more.", code="unknown_video")
        if found["status"] in (Status.READY, Status.FAILED):
            bar.show(100.0, "ended")
            return found
        check()
        _show(progress(services, found), found["status"], bar)
        pause.wait(LOOK_SECONDS)


def progress(services: Services, row: dict[str, Any]) -> dict[str, Any] | None:
    """The live progress of a PROCESSING video; None while there is none, or no Redis: nobody depends on it."""
    if row["status"] != Status.PROCESSING or row.get("tenant_id") is None:
        return None
    try:
        return services.telemetry.read_progress(row["tenant_id"], row["video_id"])
    except Unavailable:
        return None


def _show(live: dict[str, Any] | None, status: str, bar: Bar) -> None:
    if live is None:
        bar.show(0.0, "waiting" if status == Status.UPLOADED else "starting")
        return
    bar.show(
        float(live.get("percent") or 0.0),
        str(live.get("step_name") or live.get("step") or ""),
        speed=live.get("speed"),
        remaining_seconds=live.get("remaining_seconds"),
    )
