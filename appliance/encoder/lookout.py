"""Of a host's idle encoders one at a time looks for work that nobody rang for; the others only listen to the queue.

So an idle host asks the database once, not once a slot.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Lookout:
    """A lock of the host (flock(2)), held until there is work. Who dies lets go of it, however that happens.

    Where a lock cannot be had for another reason (no directory yet, a full disk), everybody looks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        #: It is ours.
        self.held = False

    def ours(self) -> bool:
        """Whether this process is the one that looks; it becomes it when nobody is."""
        if self.held:
            return True
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self.held = True
        return True

    def leave(self) -> None:
        """There is something to do: the next idle encoder looks."""
        if self.held and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.held = False
