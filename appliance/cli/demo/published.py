"""A published stream as a directory: the same tree, and a master at its top."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from appliance.adapters.s3 import S3

MASTER = "master.m3u8"
URI_ATTRIBUTE = re.compile(r'(?<=[:,]URI=")(?=[^"])')


def copy(streams: S3, hls_path: str, out: Path) -> Path:
    """Copy everything of the video that `hls_path` belongs to; returns the path of `out`/master.m3u8.

    The layout is the published one, so the playlists' relative addresses hold; what lay compressed is unpacked. Only
    the master at the top is rewritten: it names the same playlists from one directory higher.
    """
    attempt, name = posixpath.split(hls_path)
    root = posixpath.dirname(attempt)
    for key in streams.sizes(f"{root}/"):
        target = out / posixpath.relpath(key, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(streams.read(key).data)
    directory = posixpath.basename(attempt)
    master = out / MASTER
    master.write_text(relocated((out / directory / name).read_text(), directory))
    return master.absolute()


def relocated(playlist: str, directory: str) -> str:
    """The playlist as it reads from the directory above `directory`: every address that it names gets the prefix."""
    lines = playlist.splitlines()
    return "\n".join(_relocated(line, directory) for line in lines) + "\n"


def _relocated(line: str, directory: str) -> str:
    if line.startswith("#"):
        return URI_ATTRIBUTE.sub(f"{directory}/", line)
    return f"{directory}/{line}" if line else line
