"""The sources of this host: each fetched from S3 once, kept for a while, and linked into the rooms of its jobs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.adapters.ffmpeg.commands import SOURCE
from appliance.adapters.s3 import S3, Head
from appliance.domain.errors import NoRoom, SourceRejected
from appliance.domain.plan import Plan
from appliance.encoder.pipeline import Fetched
from appliance.encoder.ports import Job, Task
from appliance.encoder.progress import ENCODE_FROM, report

GIB = 1024**3
#: A download that is not whole; its lock is held by whoever writes it.
PART = ".part"
#: How often a slot that waits for another slot's download looks up.
WAIT_SECONDS = 0.2


class Cache:
    """Whole files in `directory`, shared by all slots of the host through hard links, `max_bytes` of them at most.

    A file that is linked into a room is in use: it counts, and is never evicted. The rest goes by last use. Nothing
    needs a lock but a download: a link that was made keeps the data, whatever happens to the cache.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self._max_bytes = max_bytes

    def link(self, name: str, target: Path) -> bool:
        """Give `target` the file; False when it is not here."""
        kept = self.directory / name
        try:
            os.link(kept, target)
        except FileNotFoundError:
            return False
        with suppress(FileNotFoundError):  # evicted this moment; the link stays
            os.utime(kept)
        return True

    def make(self, name: str, target: Path, write: Callable[[Path], None], wait: Callable[[], None]) -> bool:
        """`target` gets the file; returns whether it had to be written. Others that want it wait for the first.

        `wait` is called while somebody else writes, and may raise. What `write` leaves unfinished is removed.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.directory / f"{name}{PART}"
        while not self.link(name, target):
            with _locked(part) as locked:
                if not locked:
                    wait()
                elif not (self.directory / name).exists():
                    self._write(part, write)
                    os.link(part, target)
                    part.rename(self.directory / name)
                    return True
                else:  # finished by somebody else after we had looked
                    part.unlink()
        return False

    def shrink(self, wanted_bytes: int = 0, coming_bytes: int = 0) -> None:
        """Down to the bound with what is coming, and until so many bytes were freed. A dead slot's part goes too."""
        kept = {path: status for path in self._files() if (status := _status(path)) is not None}
        total = coming_bytes + sum(status.st_size for status in kept.values())
        surplus = max(wanted_bytes, total - self._max_bytes)
        for path, status in sorted(kept.items(), key=lambda item: item[1].st_mtime):
            if path.suffix == PART:
                with _locked(path) as locked:
                    gone = locked and _removed(path)
            else:
                gone = surplus > 0 and status.st_nlink == 1 and _removed(path)
            surplus -= status.st_size if gone else 0

    def _files(self) -> Iterator[Path]:
        return self.directory.iterdir() if self.directory.is_dir() else iter(())

    def _write(self, part: Path, write: Callable[[Path], None]) -> None:
        try:
            write(part)
            # A host that loses its power must not find a whole name with half of the bytes.
            with part.open("rb") as file:
                os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class Sources:
    """`max_bytes` is the operator's bound for any source, `floor_bytes` what must stay free on the scratch disk."""

    def __init__(self, storage: S3, cache: Cache, *, max_bytes: int, floor_bytes: int) -> None:
        self._storage = storage
        self._cache = cache
        self._max_bytes = max_bytes
        self._floor_bytes = floor_bytes

    def __call__(self, job: Job, directory: Path) -> Fetched:
        """The row's `file_key`, as it is now, as `directory`/source.

        Raises SourceRejected `source_missing` or `too_large`, NoRoom when another host must take it, Unavailable.
        """
        head = self._storage.head(job.lease.file_key)
        if head.size_bytes > self._max_bytes:
            raise SourceRejected(
                f"The file has {head.size_bytes / GIB:.1f} GiB; {self._max_bytes / GIB:.0f} GiB are allowed.",
                code="too_large",
                hint="Export the recording with a lower bit rate, or raise workspace.max_source.",
            )

        def tell(done_bytes: int) -> None:
            report(job, "fetch", ENCODE_FROM * done_bytes / max(1, head.size_bytes))

        fetched = self._fetch(job, job.lease.file_key, head, directory, tell)
        return Fetched(head.etag, head.size_bytes, cached=not fetched)

    def planned(self, task: Task, file_key: str, plan: Plan, directory: Path) -> Fetched:
        """The very bytes that the plan was made from. Raises Transient `source_changed` when they are gone."""
        head = Head(plan.source_bytes, plan.source_etag)
        fetched = self._fetch(task, file_key, head, directory, lambda _: None)
        return Fetched(head.etag, head.size_bytes, cached=not fetched)

    def _fetch(self, task: Task, key: str, head: Head, directory: Path, tell: Callable[[int], None]) -> bool:
        """Whether it had to be downloaded."""

        def write(part: Path) -> None:
            self._make_room(head.size_bytes, directory)

            def check() -> None:
                task.may_begin(None)  # nothing is lost by leaving now, and a drain's budget is better spent
                tell(part.stat().st_size)

            self._storage.download(key, part, if_match=head.etag, check=check)

        def wait() -> None:
            task.may_begin(None)
            task.wait(WAIT_SECONDS)

        name = hashlib.sha256(f"{self._storage.bucket}\n{key}\n{head.etag}".encode()).hexdigest()
        return self._cache.make(name, directory / SOURCE, write, wait)

    def _make_room(self, size_bytes: int, directory: Path) -> None:
        needed = size_bytes + self._floor_bytes
        self._cache.shrink(needed - shutil.disk_usage(directory).free, size_bytes)
        free = shutil.disk_usage(directory).free
        if needed > free:
            raise NoRoom(
                f"The source needs {size_bytes / GIB:.1f} GiB and {free / GIB:.1f} GiB are free on this host.",
                hint="Give the workspace a larger disk; a host with more room takes the video meanwhile.",
            )


@contextmanager
def _locked(part: Path) -> Iterator[bool]:
    """Whether the unfinished file is ours now. The kernel lets go of it when its writer dies."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _lock(descriptor) and _names(part, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names(path: Path, descriptor: int) -> bool:
    """Whether the path still means the opened file: it may have been renamed or removed before it was locked."""
    status = _status(path)
    return status is not None and status.st_ino == os.fstat(descriptor).st_ino


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _removed(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True
