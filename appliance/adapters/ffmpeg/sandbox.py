"""What a decoder of strangers' files may reach: no credentials, no network, its own directory, bounded memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from appliance.adapters.ffmpeg.cage import LATER
from appliance.adapters.ffmpeg.starter import Starter
from appliance.domain.errors import ConfigError, Transient

#: What self_test answers for, and the metric's label values. The first two cannot be missing on Linux ≥ 5.3.
LAYERS = ("no_new_privs", "rlimits", "landlock", "seccomp")


@dataclass(frozen=True)
class Cage:
    """What an operator may set. `readable`: directories that an ffmpeg of one's own loads things from."""

    landlock: bool = True
    seccomp: bool = True
    #: Rather no program at all than one without a layer.
    required: bool = False
    readable: tuple[str, ...] = ()
    #: The largest file that one program may write.
    file_bytes: int = 64 * 1024**3


def environment() -> dict[str, str]:
    """The whole environment of a program: nothing of ours, so no credential can leak into it."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def caged(command: list[str], rules: Cage, memory_bytes: int) -> list[str]:
    """What `cage.become` needs to know, the directory aside, to become the command."""
    layers = [name for name in ("landlock", "seccomp") if getattr(rules, name)]
    program = shutil.which(command[0]) or command[0]
    own = Path(program).resolve()
    readable = [str(own), str(own.parent.parent / "lib"), *rules.readable]  # a build of one's own has its lib there
    bounds = [str(memory_bytes), str(rules.file_bytes), ",".join(layers), "required" if rules.required else "-"]
    return [*bounds, *readable, "--", program, *command[1:]]


def self_test(rules: Cage) -> dict[str, bool]:
    """Layer of LAYERS → whether it holds: a caged process really tries to read, write and connect where it must not.

    Raises ConfigError when no program can be started in the cage, be it that a required layer is missing, and Transient
    when the host was only slow, or short of something.
    """
    with tempfile.TemporaryDirectory() as outside, tempfile.TemporaryDirectory() as inside:
        canary = Path(outside, "canary")
        canary.touch()
        command = ["--try", str(canary), str(Path(outside, "written"))]
        with (
            Starter(environment()) as starter,
            starter.start(Path(inside), caged(command, rules, 1 << 30)) as descriptors,
        ):
            ended = starter.ended(60)  # the little that it says waits in the pipes
            if ended is None:
                raise Transient("ffmpeg's sandbox did not answer within a minute.")
            found, wrong = (os.fdopen(descriptor, closefd=False).read() for descriptor in descriptors)
    if ended.status == LATER and not ended.started:
        raise Transient(f"ffmpeg's sandbox could not be tried: {wrong.strip()[-300:]}")
    if ended.status != 0:
        raise ConfigError([f"ffmpeg cannot be started in its sandbox here: {wrong.strip()[-300:]}"])
    return {name: state == "1" for name, _, state in (word.partition("=") for word in found.split())}
