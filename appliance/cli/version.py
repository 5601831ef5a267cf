"""`version`: what is installed here."""

from __future__ import annotations

import argparse
import platform

from appliance import __version__
from appliance.adapters.ffmpeg import tools
from appliance.cli import exits, settings, terminal
from appliance.domain.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """Answers whatever state the host is in: what is missing is a sentence in its place."""
    found = {"version": __version__, "python": platform.python_version(), **_ffmpeg(options)}
    if options.json:
        terminal.emit(found)
    else:
        terminal.facts(f"video-appliance {__version__}", {name: found[name] for name in found if name != "version"})
    return exits.DONE


def _ffmpeg(options: argparse.Namespace) -> dict[str, str | None]:
    try:
        ffmpeg = settings.read_or_default(options).ffmpeg
        programs = tools.find(ffmpeg.ffmpeg, ffmpeg.ffprobe)
    except ConfigError as error:
        return {"ffmpeg": error.sentence, "ffmpeg_program": None, "ffprobe_program": None}
    return {"ffmpeg": programs.build, "ffmpeg_program": programs.ffmpeg, "ffprobe_program": programs.ffprobe}
