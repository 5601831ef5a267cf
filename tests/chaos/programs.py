"""A fake ffmpeg and ffprobe for mass: they replay what the real ones did with the same arguments on the same source.

So everything around them is the real thing: command lines, process groups, packaging, upload, proof. What was not
rehearsed goes to the real program, which is how a part of the videos is really encoded.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from appliance.adapters.ffmpeg import tools

#: The checksums of arguments and source are the key. Runs that leave files last a little, so that kills meet some.
SCRIPT = """#!/bin/sh
sums=$(printf '%s\\n' {name} "$@" | cksum - source 2>/dev/null)
of_source=${{sums#*-?}}
kept={cache}/${{sums%% *}}-${{of_source%% *}}
if [ ! -d "$kept" ] && [ -e source ] && [ -e {cache}/rehearsal ]; then
  new=$(mktemp -d {cache}/new.XXXXXX)
  cp -RL . "$new/files" && cd "$new/files" || exit 97
  touch ../stamp
  sleep 0.05
  {real} "$@" >../out 2>../err
  echo $? >../status
  find . -type f ! -newer ../stamp -delete
  find . -mindepth 1 -depth -type d -empty -delete
  cd "$OLDPWD" && rmdir "$new/files" 2>/dev/null
  mv "$new" "$kept"
fi
[ -d "$kept" ] || exec {real} "$@"
if [ -d "$kept/files" ]; then
  sleep 0.$(($$ % {linger_tenths}))
  cp -R "$kept/files/." .
fi
[ -s "$kept/err" ] && cat "$kept/err" >&2
[ -s "$kept/out" ] && cat "$kept/out"
read -r status <"$kept/status"
exit "$status"
"""
#: A fake encode takes 0 to this many tenths of a second, less one.
LINGER_TENTHS = 5


@dataclass(frozen=True)
class Programs:
    """The fakes lie in `directory`, what they replay in `directory`/cache."""

    directory: Path

    @property
    def ffmpeg(self) -> Path:
        return self.directory / "ffmpeg"

    @property
    def ffprobe(self) -> Path:
        return self.directory / "ffprobe"

    @classmethod
    def make(cls, directory: Path) -> Programs:
        cache = directory / "cache"
        cache.mkdir(parents=True)
        real = tools.find()
        made = cls(directory)
        for path, program in ((made.ffmpeg, real.ffmpeg), (made.ffprobe, real.ffprobe)):
            path.write_text(
                SCRIPT.format(name=path.name, cache=cache, real=program, linger_tenths=LINGER_TENTHS), encoding="utf-8"
            )
            path.chmod(0o755)
        return made

    def rehearse(self, sources: list[Path], settings: dict[str, Any]) -> None:
        """Encode each source once with these sections of the configuration, and keep what the programs did."""
        mark = self.directory / "cache/rehearsal"
        mark.touch()
        settings = {"ffmpeg": {"ffmpeg": str(self.ffmpeg), "ffprobe": str(self.ffprobe)}, **settings}
        path = self.directory / "rehearsal.yaml"
        path.write_text(yaml.safe_dump(settings))
        for source in sources:
            out = self.directory / "rehearsed" / source.stem
            command = [
                sys.executable,
                "-m",
                "appliance",
                "encode",
                str(source),
                "--out",
                str(out),
                "--config",
                str(path),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{source.name} could not be rehearsed:\n{done.stdout}{done.stderr}")
        mark.unlink()
