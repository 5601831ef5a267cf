"""What a decoder of strangers' files may reach: no credentials, bounded memory, and death with its parent."""

from __future__ import annotations

import ctypes
import resource
import signal
from collections.abc import Callable

#: prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
#: A core dump of a decoder would fill the scratch disk with a student's face.
_NO_CORE = (0, 0)


def environment() -> dict[str, str]:
    """The whole environment of a child: nothing of ours, so no credential can leak into it."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def entry(memory_bytes: int) -> Callable[[], None]:
    """What runs in the child between fork and exec: only system calls, prepared before the fork.

    PR_SET_PDEATHSIG follows the *thread* that forks, so a program must be started by the thread that waits for it.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    setrlimit = resource.setrlimit
    limit = (memory_bytes, memory_bytes)

    def enter() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        setrlimit(resource.RLIMIT_AS, limit)
        setrlimit(resource.RLIMIT_CORE, _NO_CORE)

    return enter
