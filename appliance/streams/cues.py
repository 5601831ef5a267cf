"""WebVTT read back, as strictly as a player may: the header, and the times and text of each cue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

#: A timestamp may leave out the hours (WebVTT §4.1).
TIME = r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})"
TIMING = re.compile(rf"{TIME}[ \t]+-->[ \t]+{TIME}(?:[ \t].*)?")


class BadText(ValueError):
    """This is not the WebVTT file it should be."""


@dataclass(frozen=True)
class Cue:
    """Seconds, and what is shown meanwhile."""

    start: Fraction
    end: Fraction
    text: str


@dataclass(frozen=True)
class Text:
    """`mapped` is whether the header holds X-TIMESTAMP-MAP (RFC 8216 §3.5)."""

    mapped: bool
    cues: tuple[Cue, ...]


def parse(data: bytes) -> Text:
    """Read a file. Raises BadText with the block that cannot be read."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise BadText("it is not UTF-8") from error
    header, *blocks = re.split(r"\n{2,}", text)
    if not re.match(r"WEBVTT(?=[ \t\n]|$)", header):
        raise BadText("it does not begin with WEBVTT")
    cues = [cue for number, block in enumerate(blocks, start=1) if (cue := _cue(block.strip("\n"), number))]
    return Text("\nX-TIMESTAMP-MAP=" in header, tuple(cues))


def _cue(block: str, number: int) -> Cue | None:
    """The cue of a block; None for a comment, a style or nothing."""
    if not block or re.match(r"(NOTE|STYLE|REGION)(?=[ \t\n]|$)", block):
        return None
    lines = block.split("\n")
    place = 0 if "-->" in lines[0] else 1
    timing = TIMING.fullmatch(lines[place].strip()) if place < len(lines) else None
    if timing is None:
        raise BadText(f"block {number} is no cue")
    start, end = _seconds(timing.groups()[:4]), _seconds(timing.groups()[4:])
    if end <= start:
        raise BadText(f"cue {number} ends before it begins")
    return Cue(start, end, "\n".join(lines[place + 1 :]))


def _seconds(parts: tuple[str | None, ...]) -> Fraction:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in parts)
    return Fraction(((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths, 1000)
