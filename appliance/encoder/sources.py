"""The source of a job: from S3 into its workspace, if this host has room for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.adapters.ffmpeg.commands import SOURCE
from appliance.adapters.s3 import S3
from appliance.domain.errors import NoRoom, SourceRejected
from appliance.encoder.pipeline import Fetched
from appliance.encoder.ports import Job
from appliance.encoder.progress import ENCODE_FROM, report

GIB = 1024**3


class Sources:
    """`max_bytes` is the operator's bound for any source, `floor_bytes` what must stay free on the scratch disk."""

    def __init__(self, storage: S3, *, max_bytes: int, floor_bytes: int) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._floor_bytes = floor_bytes

    def __call__(self, job: Job, directory: Path) -> Fetched:
        """Download the row's `file_key` as `directory`/source.

        Raises SourceRejected `source_missing` or `too_large`, NoRoom when another host must take it, Unavailable.
        """
        head = self._storage.head(job.lease.file_key)
        if head.size_bytes > self._max_bytes:
            raise SourceRejected(
                f"The file has {head.size_bytes / GIB:.1f} GiB; {self._max_bytes / GIB:.0f} GiB are allowed.",
                code="too_large",
                hint="Export the recording with a lower bit rate, or raise workspace.max_source.",
            )
        free = shutil.disk_usage(directory).free
        if head.size_bytes + self._floor_bytes > free:
            raise NoRoom(
                f"The source needs {head.size_bytes / GIB:.1f} GiB and {free / GIB:.1f} GiB are free on this host.",
                hint="Give the workspace a larger disk; a host with more room takes the video meanwhile.",
            )
        target = directory / SOURCE

        def check() -> None:
            job.may_begin(None)  # nothing is lost by leaving now, and a drain's budget is better spent
            report(job, "fetch", ENCODE_FROM * target.stat().st_size / max(1, head.size_bytes))

        self._storage.download(job.lease.file_key, target, if_match=head.etag, check=check)
        return Fetched(head.etag, head.size_bytes)
