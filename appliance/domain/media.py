"""What came in and what goes out: the source as probed, the ladder as configured, the arithmetic between them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from fractions import Fraction

from appliance.domain.content import Look
from appliance.domain.gaps import Gap


@dataclass(frozen=True)
class VideoStream:
    """The picture that is encoded. Sizes are stored pixels, upright."""

    index: int
    codec: str
    width: int
    height: int
    #: Sample (pixel) aspect ratio; 1 when unknown.
    sample_aspect: Fraction
    pixel_format: str
    #: `bt709`, `smpte2084` (PQ), `arib-std-b67` (HLG), …; empty when unknown.
    transfer: str
    #: YCbCr matrix as swscale names it: `bt709`, `bt601`, `bt2020`, `smpte240m`, `fcc`.
    matrix: str
    #: Which field comes first (`tff`, `bff`, `auto`: the decoder knows); empty for whole pictures.
    fields: str
    #: First and one-past-last presentation time, seconds on the source's own clock.
    start_seconds: Fraction
    end_seconds: Fraction
    #: Packets counted by the demuxer.
    packets: int
    #: Frames per second in the busiest seconds, before snapping.
    busiest_rate: Fraction
    #: True when every seek to a chunk's start lands on a key frame at or before it.
    seekable: bool
    #: The longest that a picture is decoded before it is shown.
    reorder_seconds: Fraction = Fraction(0)
    full_range: bool = False
    transparent: bool = False
    #: Empty: ffmpeg's choice.
    decoder: str = ""
    look: Look = field(default_factory=Look)


@dataclass(frozen=True)
class AudioStream:
    """The sound that is encoded."""

    index: int
    codec: str
    channels: int
    sample_rate: int
    language: str
    start_seconds: Fraction
    end_seconds: Fraction
    title: str = ""


@dataclass(frozen=True)
class TextStream:
    """Subtitles that decode as text."""

    index: int
    codec: str
    language: str
    title: str = ""


@dataclass(frozen=True)
class Chapter:
    """A part of the recording with a name, in seconds on the source's own clock."""

    title: str
    start_seconds: Fraction
    end_seconds: Fraction


@dataclass(frozen=True)
class Source:
    """A probed source: at least one of `video` and `audio` decodes."""

    container: str
    video: VideoStream | None
    audio: AudioStream | None
    text: tuple[TextStream, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    #: Holes in all streams' timestamps, to be closed.
    gaps: tuple[Gap, ...] = ()
    #: The file's clock jumps back: times are those of the one clock that ffmpeg makes of it.
    continuous: bool = False
    #: What was wrong and survivable; ends in the receipt.
    warnings: tuple[str, ...] = ()

    @property
    def start_seconds(self) -> Fraction:
        return min(stream.start_seconds for stream in (self.video, self.audio) if stream is not None)

    @property
    def end_seconds(self) -> Fraction:
        return max(stream.end_seconds for stream in (self.video, self.audio) if stream is not None)


@dataclass(frozen=True)
class LadderStep:
    """One line of the configured ladder. `short_side` in pixels, `maxrate` in bit/s."""

    short_side: int
    crf: float
    maxrate: int


@dataclass(frozen=True)
class Rendition:
    """One rung of one video: even pixel sizes, square pixels."""

    name: str
    width: int
    height: int
    crf: float
    maxrate: int

    @property
    def bufsize(self) -> int:
        """The rate buffer in bits: two seconds at maxrate (MEDIA §3)."""
        return 2 * self.maxrate


DEFAULT_LADDER: tuple[LadderStep, ...] = (
    LadderStep(1080, 22, 4_000_000),
    LadderStep(720, 23, 2_200_000),
    LadderStep(480, 23, 1_000_000),
    LadderStep(360, 24, 550_000),
)

#: H.264 levels (ITU-T H.264 table A-1): macroblocks a second, in a frame, in all frames kept; kbit/s and kbit of
#: buffer, those of the High profile being 1.25 times as much.
LEVELS = (
    (10, 1485, 99, 396, 64, 175),
    (11, 3000, 396, 900, 192, 500),
    (12, 6000, 396, 2376, 384, 1000),
    (13, 11880, 396, 2376, 768, 2000),
    (20, 11880, 396, 2376, 2000, 2000),
    (21, 19800, 792, 4752, 4000, 4000),
    (22, 20250, 1620, 8100, 4000, 4000),
    (30, 40500, 1620, 8100, 10000, 10000),
    (31, 108000, 3600, 18000, 14000, 14000),
    (32, 216000, 5120, 20480, 20000, 20000),
    (40, 245760, 8192, 32768, 20000, 25000),
    (41, 245760, 8192, 32768, 50000, 62500),
    (42, 522240, 8704, 34816, 50000, 62500),
    (50, 589824, 22080, 110400, 135000, 135000),
    (51, 983040, 36864, 184320, 240000, 240000),
    (52, 2073600, 36864, 184320, 240000, 240000),
    (62, 16711680, 139264, 696320, 800000, 800000),
)


def level(rung: Rendition, rate: Fraction, kept_frames: int) -> int:
    """The lowest level that allows this, ten times its number; the highest where none does."""
    across, down = -(-rung.width // 16), -(-rung.height // 16)
    frame = across * down
    wanted = (float(frame * rate), frame, frame * kept_frames, rung.maxrate / 1250, rung.bufsize / 1250)
    for number, *most in LEVELS:
        # no side is longer than eight times the largest square (§A.3.1)
        if max(across, down) ** 2 <= 8 * most[1] and all(map(operator.le, wanted, most)):
            return number
    return LEVELS[-1][0]


#: A source this much larger than the highest step it reaches also gets a rung of its own size.
OWN_RUNG_FACTOR = Fraction(11, 10)


def display_size(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """Square pixels, even: the longer of the two sides is stretched, so that no detail is thrown away."""
    if sample_aspect > 1:
        return _even(width * sample_aspect), _even(Fraction(height))
    return _even(Fraction(width)), _even(height / sample_aspect)


def fitted(width: int, height: int, short: int, long: int) -> tuple[int, int]:
    """The largest even size of this shape whose sides are at most `short` and `long`, never larger than it was."""
    scale = min(Fraction(1), Fraction(short, min(width, height)), Fraction(long, max(width, height)))
    return _even(width * scale), _even(height * scale)


def ladder(width: int, height: int, steps: tuple[LadderStep, ...]) -> tuple[Rendition, ...]:
    """The rungs for a picture of this display size, highest first; never larger than the picture.

    The short side decides, so a portrait phone video gets the rungs of its width.
    """
    short = min(width, height)
    ordered = sorted(steps, key=lambda step: step.short_side, reverse=True)
    fitting = [step for step in ordered if step.short_side <= short]
    above = [step for step in ordered if step.short_side > short]
    if above and (not fitting or short >= fitting[0].short_side * OWN_RUNG_FACTOR):
        nearest = above[-1]
        fitting.insert(0, LadderStep(short, nearest.crf, nearest.maxrate))
    return tuple(_rendition(width, height, short, step) for step in fitting)


def _rendition(width: int, height: int, short: int, step: LadderStep) -> Rendition:
    scale = Fraction(step.short_side, short)
    return Rendition(f"{step.short_side}p", _even(width * scale), _even(height * scale), step.crf, step.maxrate)


def _even(value: Fraction | int) -> int:
    return max(2, 2 * round(Fraction(value) / 2))


#: A declared rate this close to the measured one is the exact one.
SAME_RATE = Fraction(5, 1000)
#: Frames in the window that is slid over the video to find its busiest stretch.
BUSY_FRAMES = 30
#: Nothing is shown faster than this; timestamps that say so are broken.
FASTEST_RATE = Fraction(240)


def busiest_rate(times: list[Fraction], declared: Fraction | None) -> Fraction:
    """Frames per second where frames come fastest. `times`: distinct, ascending, seconds.

    Averages are absurd in real files (one claims 57600), so the timestamps decide; a declared rate is taken when it
    says the same more exactly than rounded timestamps can.
    """
    window = min(BUSY_FRAMES, len(times) - 1)
    if window < 1:
        return declared if declared and declared <= FASTEST_RATE else Fraction(25)
    spans = (later - earlier for earlier, later in zip(times, times[window:], strict=False))
    measured = window / min(spans)
    if declared and abs(declared - measured) <= measured * SAME_RATE:
        return declared
    return min(measured, FASTEST_RATE)


#: A rate is halved only when it is clearly above 30: phones jitter.
DIVIDED_ABOVE = Fraction(33)
#: Output rates: film, PAL, NTSC, and the slow rates of screen recordings.
RATES: tuple[Fraction, ...] = (
    Fraction(10),
    Fraction(12),
    Fraction(15),
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
)


def snap_rate(busiest: Fraction) -> Fraction:
    """The output rate: whole divisors of a faster source first (60 → 30, 50 → 25), then the nearest rate not below.

    Above 30 the source is divided by the smallest whole number that brings it to 30 or less.
    """
    divisor = 1
    while busiest / divisor > DIVIDED_ABOVE:
        divisor += 1
    wanted = busiest / divisor
    near = min(RATES, key=lambda rate: abs(rate - wanted))
    if abs(near - wanted) <= wanted * Fraction(5, 10000):
        return near
    above = [rate for rate in RATES if rate >= wanted]
    return above[0] if above else RATES[-1]
