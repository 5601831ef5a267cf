"""What every decoder runs in, from the configuration."""

from __future__ import annotations

from appliance.adapters.ffmpeg.sandbox import Cage
from appliance.config import Config


def cage(config: Config) -> Cage:
    """What every ffmpeg and ffprobe runs in."""
    settings = config.sandbox
    return Cage(
        landlock=settings.landlock,
        seccomp=settings.seccomp,
        required=settings.required,
        readable=settings.readable,
        file_bytes=settings.file_bytes,
    )
