"""What a recording shows: how often its pictures repeat, and whether it is a screen, where only changes are encoded.

Free on camera content: the source's own encoder wrote a packet of a few bytes for a picture that is the one before, or
none at all, and the packets are counted anyway. Encoders that fill such packets up are found by their flat pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

#: With this share of repeats it pays to look at every picture of a chunk; looking costs 2 % where there are none.
WORTH_LOOKING = 0.1
#: A screen repeats its pictures and is flat in so many blocks. In the corpus screens have 0.21 to 0.62 of them; so have
#: some cameras, but these do not repeat.
FLAT_SCREEN = 0.15
#: A packet that says only "as before": bytes, and pixels that one byte more stands for. In the corpus such packets have
#: 63 (VP8, 826x590), 39 (VP9, 1139x540), 71 to 103 (H.264, 960x540) and 86 to 170 bytes (HEVC, 1920x1080).
SKIPPED_BYTES, SKIPPED_PIXELS = 64, 16_000
#: A packet counts for the next frame of the grid when it comes less than this part of a frame before it.
EARLY = 8
#: Of a grid, a week's; times that lie further apart are no recording's, and nothing is said of them.
MOST_FRAMES = 7 * 24 * 3600 * 30
#: Formats in which pictures can be compared as they are, eight bits deep.
COMPARED = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})


class Content(StrEnum):
    """What kind of pictures, which decides how x264 is tuned."""

    CAMERA = "camera"
    SCREEN = "screen"


@dataclass(frozen=True)
class Look:
    """What was measured. `moving`: frames of the grid with a picture of their own in each second since the start.

    `changes`: pictures a second that differ from the one before, in a sample that was decoded; None where none was.
    `flat`: share of 8x8 blocks without an edge, the median of a few key frames; 0 where none was looked at.
    """

    moving: tuple[int, ...] = ()
    changes: float | None = None
    flat: float = 0.0

    def repeated(self, rate: Fraction, first: float = 0.0, last: float = math.inf) -> float:
        """Share of the grid's frames without a picture of their own: in the sample, or between two times in seconds."""
        sample = 0.0 if self.changes is None else 1 - self.changes / float(rate)
        seconds = self.moving[int(first) : math.ceil(min(last, len(self.moving)))]
        own = sum(min(float(count), float(rate)) for count in seconds)
        return max(0.0, sample, 1 - own / (float(rate) * len(seconds)) if seconds else 0.0)

    def content(self, rate: Fraction) -> Content:
        screen = self.flat >= FLAT_SCREEN and self.repeated(rate) >= WORTH_LOOKING
        return Content.SCREEN if screen else Content.CAMERA

    def why(self, rate: Fraction) -> str:
        """For the receipt."""
        return f"{self.repeated(rate):.0%} of the frames repeat, {self.flat:.0%} of the blocks are flat"


def moving(
    times: Sequence[int], sizes: Sequence[int], pixels: int, time_base: Fraction, rate: Fraction
) -> tuple[int, ...]:
    """Frames of a grid at `rate` in each second since the first packet that some packet has a new picture for: one that
    says more than "as before". `times` in `time_base` seconds; a source that is faster than the grid has several.
    """
    if not times:
        return ()
    start, most = min(times), SKIPPED_BYTES + pixels // SKIPPED_PIXELS
    step = time_base * rate
    frames = [
        ((time - start) * EARLY * step.numerator + step.denominator) // (EARLY * step.denominator) for time in times
    ]
    if max(frames) > MOST_FRAMES:
        return ()
    new = bytearray(max(frames) + 1)
    for frame, size in zip(frames, sizes, strict=True):
        new[frame] |= size > most
    seconds = range(math.ceil(len(new) / rate))
    return tuple(sum(new[math.ceil(second * rate) : math.ceil((second + 1) * rate)]) for second in seconds)
