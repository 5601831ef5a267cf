"""What a decoder of strangers' files may reach: no credentials, bounded memory, and death with its parent."""

from __future__ import annotations


def environment() -> dict[str, str]:
    """The whole environment of a program: nothing of ours, so no credential can leak into it."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def caged(command: list[str], memory_bytes: int) -> list[str]:
    """The command behind util-linux's two small exec wrappers; both replace themselves, so the PID stays.

    The death signal follows the *thread* that starts the program: it must be the one that waits for it.
    """
    return [
        "setpriv",
        "--pdeathsig", "KILL",  # a killed encoder leaves no ffmpeg behind (F31)
        "--no-new-privs",  # nothing it could exec has more rights than it
        "prlimit",
        f"--as={memory_bytes}",  # an 875 kB picture can ask for gigabytes (F46)
        "--core=0",  # a core dump would fill the scratch disk with somebody's lecture
        *command,
    ]  # fmt: skip
