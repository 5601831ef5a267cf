"""What ffmpeg's filters say of decoded pictures: containers and flags lie, so the pictures are asked."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

SHOWN = re.compile(r"\bfmt:(\S+) .*?\bsar:(\d+)/(\d+) s:(\d+)x(\d+) ")
COLOURS = re.compile(r"\bcolor_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)")
SCAN = re.compile(r"Multi frame detection: TFF:\s*(\d+) BFF:\s*(\d+) Progressive:\s*(\d+) Undetermined:\s*(\d+)")
AVERAGE = re.compile(r"lavfi\.signalstats\.YAVG=([0-9.]+)")
#: swscale's names of the YCbCr matrices, by ffprobe's.
MATRICES = {
    "bt709": "bt709",
    "smpte170m": "bt601",
    "bt470bg": "bt601",
    "bt2020nc": "bt2020",
    "bt2020c": "bt2020",
    "smpte240m": "smpte240m",
    "fcc": "fcc",
}
#: Pixel formats with transparency.
ALPHA = re.compile(r"(yuva|gbrap|rgba|bgra|argb|abgr|ya|pal8|ayuv|vuya)")
#: Fewer pictures than this prove nothing about how they were scanned.
FEWEST = 30
#: The share of a sample, in which nothing else may be seen, that overrules a flag.
MAJORITY = 0.8
#: Squeezed more than this is a mistake in the header.
MOST_SQUEEZED = 4


@dataclass(frozen=True)
class Picture:
    """One decoded picture, upright. Sizes in stored pixels; colours as ffmpeg names them, `unknown` included."""

    pixel_format: str
    width: int
    height: int
    sample_aspect: Fraction
    full_range: bool
    matrix: str
    transfer: str

    @property
    def transparent(self) -> bool:
        return ALPHA.match(self.pixel_format) is not None


def first_picture(words: Iterable[str]) -> Picture | None:
    """What `showinfo` said; None when nothing was decoded."""
    text = "\n".join(words)
    shown, colours = SHOWN.search(text), COLOURS.search(text)
    if shown is None:
        return None
    over, under = int(shown[2]), int(shown[3])
    aspect = Fraction(over, under) if over and under else Fraction(1)
    believable = 1 / Fraction(MOST_SQUEEZED) <= aspect <= MOST_SQUEEZED
    return Picture(
        pixel_format=shown[1],
        width=int(shown[4]),
        height=int(shown[5]),
        sample_aspect=aspect if believable else Fraction(1),
        full_range=colours is not None and colours[1] == "pc",
        matrix=colours[2] if colours else "unknown",
        transfer=colours[4] if colours else "unknown",
    )


def scanned(words: Iterable[str], *, flagged: bool) -> str:
    """Which field comes first (`tff`, `bff`, `auto`), empty for whole pictures: `idet`'s word where it is clear.

    Fields in turns (both parities seen) are what still or noisy whole pictures look like.
    """
    found = SCAN.findall("\n".join(words))
    top, bottom, whole, unsure = (int(count) for count in found[-1]) if found else (0, 0, 0, 0)
    pictures = top + bottom + whole + unsure
    if pictures >= FEWEST:
        if whole + 2 * min(top, bottom) >= MAJORITY * pictures:
            return ""
        if max(top, bottom) >= MAJORITY * pictures:
            return "tff" if top > bottom else "bff"
    return "auto" if flagged else ""


def changes(words: Iterable[str], lines: Iterable[str], rate: Fraction) -> float | None:
    """Pictures a second that are not as the one before, of the scanned sample; None where that was too small."""
    found = SCAN.findall("\n".join(words))
    pictures = sum(map(int, found[-1])) if found else 0
    kept = sum(line.startswith("frame:") for line in lines)
    return float(kept * rate / pictures) if pictures >= FEWEST else None


def flat(lines: Iterable[str]) -> float:
    """The median share of flat blocks in the key frames that `look` looked at; 0 where none could be."""
    shares = [float(found[1]) / 255 for line in lines if (found := AVERAGE.search(line))]
    return round(statistics.median_low(shares), 3) if shares else 0.0
