"""`submit FILE | s3://KEY | VIDEO`: a recording gets a row and a ring; a row that is there gets the ring."""

from __future__ import annotations

import argparse
import mimetypes
import re
import uuid
from pathlib import Path
from typing import Any

from appliance.adapters.postgres.connection import AmbiguousCommit
from appliance.cli import exits, numbers, receipts, settings, terminal
from appliance.cli.bar import Bar
from appliance.cli.follow import follow
from appliance.cli.retry import put_back
from appliance.cli.services import Services
from appliance.domain.errors import ApplianceError, SourceRejected, Unavailable
from appliance.domain.message import Message
from appliance.domain.video import Status

#: Uploads of this verb lie under keys of their own, whatever the file is called.
UPLOADS = "uploads"
SHOW = "`video-appliance show {}` says how far it is."
GOES_ON = f"The video goes on: {SHOW}"
SAFE_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="FILE|s3://KEY|VIDEO",
        help="a file, a key of the source bucket, or the id of a row",
    )
    parser.add_argument("--tenant", type=numbers.tenant, default=1, metavar="N", help="of a new row (default: 1)")
    parser.add_argument(
        "--priority", type=numbers.priority, default=0, metavar="N", help="higher is sooner (default: 0)"
    )
    parser.add_argument("--wait", action="store_true", help="show progress; status 0 for READY, 1 for FAILED")


def main(options: argparse.Namespace) -> int:
    """Prints the video's id; the platform of an adopted table makes its rows itself, so there it takes the id."""
    services = Services(settings.read(options))
    if options.what.isdigit() and not Path(options.what).exists():
        video_id, rung = int(options.what), _hand_in(services, int(options.what))
    else:
        with Bar(quiet=True) as bar:
            video_id, rung = submit(services, options.what, bar, options.tenant, options.priority)
    if not options.json:
        terminal.say(f"Video {video_id} is in the queue.\n  → {SHOW.format(video_id)}")
    elif not options.wait:
        terminal.emit({"video_id": video_id, "status": str(Status.UPLOADED), "rung": rung})
    return _wait(services, video_id, options) if options.wait else exits.DONE


def submit(services: Services, what: str, bar: Bar, tenant_id: int, priority: int = 0) -> tuple[int, bool]:
    """Upload `what`, or find it in the source bucket; make the row; ring. The new video's id, whether SQS rang."""
    uploaded = not what.startswith("s3://")
    services.reports.backlog()  # whether the database answers, before an upload that may take an hour and be in vain
    key = _upload(services, Path(what), bar) if uploaded else _existing(services, what)
    try:
        video_id = services.leases.submit(key, tenant_id, priority)
    except AmbiguousCommit as lost:  # the row may be there, and would want its source
        raise Unavailable(
            lost.dependency, lost.sentence, hint="`video-appliance list` says whether it is in."
        ) from lost
    except ApplianceError:
        if uploaded:
            services.sources.delete([key])
        raise
    return video_id, services.ring(Message(video_id, tenant_id, key))


def _hand_in(services: Services, video_id: int) -> bool:
    """A row that is there: one still PENDING whose source lies in S3 waits from now on, others as `retry` does."""
    row = services.reports.show(video_id)
    if row and row["status"] == Status.PENDING:
        services.sources.head(row["file_key"])
        services.leases.hand_in(video_id)
    put = put_back(services, video_id)
    if not put["queued"]:
        raise ApplianceError(f"Video {video_id} {put['sentence']}", code="not_queued", hint="`video-appliance list`")
    return bool(put["rung"])


def _upload(services: Services, file: Path, bar: Bar) -> str:
    if not file.is_file():
        raise SourceRejected(
            f"There is no file {file}.", code="source_missing", hint="A key in S3 is written s3://KEY."
        )
    suffix = file.suffix.lower()
    key = f"{UPLOADS}/{uuid.uuid4()}{suffix if SAFE_SUFFIX.fullmatch(suffix) else ''}"
    content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    services.sources.ping()
    whole_bytes, done = file.stat().st_size, []

    def sent(more_bytes: int) -> None:
        done.append(more_bytes)
        bar.show(100 * sum(done) / whole_bytes, "upload")

    services.uploads.put_file(key, file, content_type=content_type, cache_control="private", sent=sent)
    return key


def _existing(services: Services, address: str) -> str:
    """The key of `s3://KEY`; `s3://BUCKET/KEY` is understood where BUCKET is the source bucket."""
    storage = services.config.storage
    bucket = storage.source_bucket or storage.bucket
    key = address.removeprefix("s3://").removeprefix(f"{bucket}/")
    services.sources.head(key)
    return key


def _wait(services: Services, video_id: int, options: argparse.Namespace) -> int:
    with Bar(quiet=options.json) as bar:
        try:
            found = follow(services, video_id, bar)
        except Unavailable as error:
            raise Unavailable(
                error.dependency, error.sentence, hint=f"{error.hint} {GOES_ON.format(video_id)}"
            ) from error
    if options.json:
        terminal.emit({**found, "progress": None})
    elif found["status"] == Status.READY:
        receipts.show(last_receipt(found))
        terminal.say(f"READY video {video_id}: {found['hls_path']}", style="green")
    else:
        terminal.say(f"FAILED video {video_id}: {found['error_reason']}", style="bold red")
    return exits.DONE if found["status"] == Status.READY else exits.NEGATIVE


def last_receipt(found: dict[str, Any]) -> dict[str, Any]:
    """The newest attempt's receipt; empty before an attempt has ended."""
    attempts = found["attempts"]
    return dict(attempts[-1]["receipt"] or {}) if attempts else {}
