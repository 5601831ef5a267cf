"""The scratch directory: a private room for each job, and its certain end."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.domain.errors import Transient
from appliance.domain.video import ChunkLease, Lease

PREFIX = "job-"
GIB = 1024**3
#: What a full, read-only or broken disk says; another try, here or elsewhere, may get past it.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class Workspace:
    """`directory` holds one room per running job of this host. A room is in use while its owner holds a lock on it.

    The kernel lets go of the lock when the owner dies, so nobody has to guess from ages or process ids (F36).
    `spare` frees that many bytes, if it can, of what only might be used again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        min_free_bytes: int,
        min_free_memory_bytes: int,
        spare: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.directory = directory
        self._spare = spare
        self._min_free_bytes = min_free_bytes
        self._min_free_memory_bytes = min_free_memory_bytes

    def lack(self) -> str:
        """Why no job may begin here now, in one sentence; empty when one may (F35)."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._spare(self._min_free_bytes - shutil.disk_usage(self.directory).free)
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            return f"The scratch directory {self.directory} cannot be used: {error.strerror}."
        if not os.access(self.directory, os.W_OK | os.X_OK):
            return f"The scratch directory {self.directory} cannot be written to."
        if free < self._min_free_bytes:
            return (
                f"{self.directory} has {free / GIB:.1f} GiB free and {self._min_free_bytes / GIB:.1f} GiB are needed "
                "(workspace.min_free_bytes)."
            )
        memory = free_memory_bytes()
        if memory < self._min_free_memory_bytes:
            return (
                f"{memory / GIB:.1f} GiB of memory are free and {self._min_free_memory_bytes / GIB:.1f} GiB are "
                "needed (workspace.min_free_memory_bytes)."
            )
        return ""

    @contextmanager
    def room(self, lease: Lease | ChunkLease) -> Iterator[Path]:
        """A directory of 0700 for one job, removed whatever happens inside. A full disk → Transient `disk_full`."""
        try:
            path, lock = self._open(lease)
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise Transient(f"The scratch disk failed: {error.strerror}.", code="disk_full") from error

    def sweep(self) -> int:
        """Remove the rooms whose owner is dead; returns how many."""
        if not self.directory.is_dir():
            return 0
        with self._door():
            return sum(_remove_if_deserted(path) for path in self.directory.glob(f"{PREFIX}*"))

    def _open(self, lease: Lease | ChunkLease) -> tuple[Path, int]:
        with self._door():
            path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{lease.video_id}-", dir=self.directory))
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return path, lock

    @contextmanager
    def _door(self) -> Iterator[None]:
        """One process at a time makes or sweeps rooms: a new one is locked before anybody looks at it."""
        door = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(door, fcntl.LOCK_EX)
            yield
        finally:
            os.close(door)


def _remove_if_deserted(path: Path) -> bool:
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        finally:
            os.close(lock)
        return True
    return False


def free_memory_bytes() -> int:
    """What the kernel says could be given to a new program without swapping (proc(5), MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
