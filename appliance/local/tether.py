"""Runs a program that ends with its parent: `python tether.py PARENT_PID DEATH_SIGNAL USER_ID program arguments…`.

A script that prepares its own process and then becomes the program, under the same process id. `PR_SET_PDEATHSIG`
(prctl(2)) can only be set by the process itself, and a change of user clears it.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process with the program; `USER_ID` is the present one, or another if this process is root."""
    parent, death_signal, user_id = (int(argument) for argument in arguments[:3])
    if user_id != os.geteuid():
        os.setgroups([])
        os.setgid(user_id)
        os.setuid(user_id)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit("tether: the parent has already gone")
    program = arguments[3:]
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
