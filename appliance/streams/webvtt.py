"""WebVTT (W3C) as ffmpeg writes it → WebVTT on the output timeline, as HLS wants it (RFC 8216 §3.5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

#: Cue time 0 is media time 0: all our tracks begin there.
HEADER = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n"
STAMP = r"(?:(\d+):)?(\d\d):(\d\d)\.(\d\d\d)"
TIMING = re.compile(rf"^{STAMP}[ \t]+-->[ \t]+{STAMP}(.*)$")


class Cue(NamedTuple):
    """One subtitle: times in seconds, `settings` as written after them, `lines` without blanks between."""

    start_seconds: Fraction
    end_seconds: Fraction
    settings: str
    lines: tuple[str, ...]


def cues(text: str) -> Iterator[Cue]:
    """Every cue with something to read, in the order of the file."""
    timing: re.Match[str] | None = None
    lines: list[str] = []
    for line in [*text.splitlines(), "00:00.000 --> 00:00.000"]:
        found = TIMING.match(line)
        if not found:
            lines.append(line.replace("-->", "\u2192").rstrip())
            continue
        shown = tuple(line for line in lines if line.strip())
        if timing and shown:
            yield Cue(_seconds(*timing.groups()[:4]), _seconds(*timing.groups()[4:8]), timing[9].rstrip(), shown)
        timing, lines = found, []


def moved(text: str, place: Callable[[Fraction], Fraction], end_seconds: Fraction) -> str:
    """The cues at their places between 0 and `end_seconds`, in the order they appear; what lies outside is left out."""
    placed = []
    for cue in cues(text):
        start, end = max(Fraction(0), place(cue.start_seconds)), min(end_seconds, place(cue.end_seconds))
        if end > start:
            placed.append(cue._replace(start_seconds=start, end_seconds=end))
    return "\n".join([HEADER, *(_written(cue) for cue in sorted(placed, key=lambda cue: cue.start_seconds))])


def _written(cue: Cue) -> str:
    timing = f"{_stamp(cue.start_seconds)} --> {_stamp(cue.end_seconds)}{cue.settings}"
    return "\n".join([timing, *cue.lines, ""])


def _seconds(hours: str | None, minutes: str, seconds: str, milliseconds: str) -> Fraction:
    return Fraction(int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)) + Fraction(int(milliseconds), 1000)


def _stamp(seconds: Fraction) -> str:
    total = round(seconds * 1000)
    return f"{total // 3_600_000:02}:{total // 60_000 % 60:02}:{total // 1000 % 60:02}.{total % 1000:03}"
