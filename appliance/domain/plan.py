"""How one video is cut: the frame grid, the segments on it, the chunks of segments, and the plan's fingerprint.

Time on the output is counted in frames of the grid; frame k is shown at k / rate seconds. A chunk is a whole number
of segments, a segment a whole number of GOPs, and all rungs share all boundaries. Chunk 0 is the whole audio (AAC's
priming would click at joins); video chunks are 1, 2, …; a source with text subtitles has one more chunk for them.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

from appliance.domain.content import COMPARED, WORTH_LOOKING
from appliance.domain.gaps import Gap, closed
from appliance.domain.loudness import Loudness
from appliance.domain.media import LadderStep, Source, VideoStream, fitted, snap_rate
from appliance.domain.receipt import Chapter
from appliance.domain.tracks import (
    GRID_TICKS,
    HDR,
    AudioTrack,
    Screens,
    TextTrack,
    VideoTrack,
    audio_track,
    text_tracks,
    video_track,
)

#: Raised when the meaning of a plan changes, so that no half of an old one is continued under new rules, and when
#: another plan is made of the same source and settings, so that none of before is taken from a row.
PLAN_REVISION = 6
AUDIO_CHUNK = 0
#: AAC-LC: 1024 samples a frame (ISO/IEC 14496-3), at the ladder's 48 kHz.
AAC_FRAME_SAMPLES = 1024
AUDIO_RATE = 48_000
AUDIO_TRACK = "audio"
#: Video timescale of the rates that divide it; the NTSC rates count in 1/24000 and 1/30000 s instead.
VIDEO_TIMESCALE = 90_000
#: A picture of the storyboard fits into this, in pixels; a sheet has at most so many pictures a side.
SPRITE_SHORT, SPRITE_LONG = 144, 256
SHEET_SIDE = 10
#: Sound this much earlier than the picture is only the audio encoder's priming.
LEAD_SECONDS = Fraction(1, 10)


@dataclass(frozen=True)
class Packaging:
    """The lengths a plan is cut by, in seconds."""

    gop_seconds: float = 2.0
    segment_seconds: float = 6.0
    chunk_seconds: float = 60.0
    #: One picture of the storyboard this often; 0: none.
    sprite_seconds: float = 10.0
    #: Where this many chunks are encoded at a time whatever waits besides, a short video is cut into as many.
    side_by_side: int = 1


@dataclass(frozen=True)
class Grid:
    """The frame grid of the output: `frames` frames at rate_num/rate_den per second."""

    rate_num: int
    rate_den: int
    frames: int
    gop_frames: int
    segment_frames: int

    @property
    def rate(self) -> Fraction:
        return Fraction(self.rate_num, self.rate_den)

    @property
    def timescale(self) -> int:
        """Ticks a second of the video tracks; one frame is a whole number of them."""
        return self.rate_num if self.rate_den == 1001 else VIDEO_TIMESCALE

    @property
    def frame_ticks(self) -> int:
        ticks = Fraction(self.timescale) / self.rate
        assert ticks.denominator == 1, f"no whole number of ticks a frame at {self.rate}"
        return int(ticks)

    @property
    def duration_seconds(self) -> Fraction:
        return self.frames / self.rate

    @property
    def segments(self) -> int:
        return math.ceil(self.frames / self.segment_frames)

    def boundary(self, segment: int) -> int:
        """First frame of the segment; `frames` for the one past the last."""
        return min(segment * self.segment_frames, self.frames)


class Mode(StrEnum):
    """How the encoder treats a chunk."""

    #: Pictures: every frame of the grid is encoded, in every rung.
    GRID = "grid"
    #: Pictures: of frames that repeat only the first is encoded, and each that begins a group of pictures.
    REPEATS = "repeats"
    #: The whole sound.
    SOUND = "sound"
    #: All text subtitles, each as one WebVTT file.
    TEXT = "text"


@dataclass(frozen=True)
class Chunk:
    """A run of whole segments; for sound and text all of them. `first_frame` and `frames` count on the grid."""

    number: int
    first_segment: int
    segments: int
    first_frame: int
    frames: int
    mode: Mode = Mode.GRID

    @property
    def pictures(self) -> bool:
        return self.mode in (Mode.GRID, Mode.REPEATS)


@dataclass(frozen=True)
class Storyboard:
    """Small pictures for the seek bar: one every `interval_frames` of the grid, from the start of each chunk on.

    They lie in sheets of `columns` × `rows`, read line by line; a sheet belongs to one chunk.
    """

    interval_frames: int
    width: int
    height: int
    columns: int
    rows: int

    def pictures(self, chunk: Chunk) -> int:
        """How many a chunk has: one at its first frame, and one every interval after."""
        return math.ceil(chunk.frames / self.interval_frames)

    def sheets(self, chunk: Chunk) -> int:
        return math.ceil(self.pictures(chunk) / (self.columns * self.rows))


@dataclass(frozen=True)
class Plan:
    """Everything two hosts must agree on to encode pieces of the same stream."""

    fingerprint: str
    #: Source time of output time 0, in GRID_TICKS.
    origin_ticks: int
    grid: Grid
    video: VideoTrack | None
    audio: AudioTrack | None
    chunks: tuple[Chunk, ...]
    text: tuple[TextTrack, ...] = ()
    #: None where there is no picture.
    storyboard: Storyboard | None = None
    #: Holes in the source's clock that are closed, in GRID_TICKS.
    gaps: tuple[Gap, ...] = ()
    #: The source's clock jumps back: ffmpeg makes one of it, beginning at 0.
    continuous: bool = False
    #: The very bytes that were probed: whoever encodes a chunk reads these and no others.
    source_etag: str = ""
    source_bytes: int = 0
    #: What it was made from (`recipe`): whoever goes on with the same need not look at the source again.
    recipe: str = ""
    #: What was found in the source besides, for the receipt of every attempt.
    chapters: tuple[Chapter, ...] = ()
    warnings: tuple[str, ...] = ()
    revision: int = PLAN_REVISION

    @property
    def drops_repeats(self) -> bool:
        """In some chunk at least."""
        return any(chunk.mode is Mode.REPEATS for chunk in self.chunks)

    @property
    def rungs(self) -> tuple[str, ...]:
        """What a player chooses from, highest first: the pictures, or the sound where there is no picture."""
        return tuple(rung.name for rung in self.video.rungs) if self.video else (AUDIO_TRACK,)

    @property
    def tracks(self) -> tuple[str, ...]:
        """Names of the output's tracks: the rungs, highest first, then the audio."""
        rungs = tuple(rung.name for rung in self.video.rungs) if self.video else ()
        return rungs + ((AUDIO_TRACK,) if self.audio else ())

    @property
    def audio_frames(self) -> int:
        """AAC frames in the whole presentation: the number nearest to the video's length, at least one."""
        return self.audio_boundary(self.grid.segments)

    def audio_boundary(self, segment: int) -> int:
        """First AAC frame of the segment: the boundary nearest to the video's."""
        seconds = self.grid.boundary(segment) / self.grid.rate
        nearest = round(seconds * AUDIO_RATE / AAC_FRAME_SAMPLES)
        return max(1, nearest) if segment else 0

    def output_seconds(self, source_seconds: Fraction) -> Fraction:
        """Where a time on the source's clock lies on the output; before its beginning it is negative."""
        return Fraction(closed(self.gaps, round(source_seconds * GRID_TICKS)) - self.origin_ticks, GRID_TICKS)

    def chunk(self, number: int) -> Chunk:
        return next(chunk for chunk in self.chunks if chunk.number == number)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Plan:
        """Read back what `to_json` wrote, from the row or from a file."""
        video, audio = fields["video"], fields["audio"]
        return cls(
            fingerprint=fields["fingerprint"],
            origin_ticks=fields["origin_ticks"],
            grid=Grid(**fields["grid"]),
            video=VideoTrack.from_json(video) if video else None,
            audio=AudioTrack.from_json(audio) if audio else None,
            chunks=tuple(Chunk(**{**chunk, "mode": Mode(chunk["mode"])}) for chunk in fields["chunks"]),
            text=tuple(TextTrack(**track) for track in fields["text"]),
            storyboard=Storyboard(**fields["storyboard"]) if fields["storyboard"] else None,
            gaps=tuple(Gap(**gap) for gap in fields["gaps"]),
            continuous=fields["continuous"],
            source_etag=fields["source_etag"],
            source_bytes=fields["source_bytes"],
            recipe=fields["recipe"],
            chapters=tuple(Chapter(**chapter) for chapter in fields["chapters"]),
            warnings=tuple(fields["warnings"]),
            revision=fields["revision"],
        )


def recipe(**made_of: object) -> str:
    """Names all that a plan is made from, the source's bytes and what was set. The same recipe makes the same plan."""
    text = json.dumps({**made_of, "revision": PLAN_REVISION}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make_plan(
    source: Source,
    *,
    identity: dict[str, object],
    steps: tuple[LadderStep, ...],
    packaging: Packaging,
    loudness: Loudness | None = None,
    screens: Screens | None = None,
) -> Plan:
    """Cut the source. `identity` is what else makes the plan this one: ETag, size, encoder settings, ffmpeg build,
    and the generation (the epoch whose stream is published), so that a re-submit of a READY video starts afresh.
    """
    rate = snap_rate(source.video.busiest_rate) if source.video else Fraction(25)
    frame = GRID_TICKS * rate.denominator // rate.numerator
    # whole frames, so that pictures after a gap lie on the grid as those before it do
    source = replace(source, gaps=tuple(Gap(gap.at, gap.length // frame * frame) for gap in source.gaps))
    origin = _origin(source, rate)
    length = _placed(source, origin, source.end_seconds)
    gop = max(1, round(rate * Fraction(packaging.gop_seconds)))
    grid = Grid(
        rate_num=rate.numerator,
        rate_den=rate.denominator,
        frames=max(1, round(length * rate)),
        gop_frames=gop,
        segment_frames=gop * max(1, round(packaging.segment_seconds / packaging.gop_seconds)),
    )
    end = _placed(source, origin, source.video.end_seconds) if source.video else length
    video = video_track(source.video, steps, screens, grid.rate, max(1, min(grid.frames, round(end * grid.rate))))
    audio = audio_track(source.audio, loudness)
    chunks = _chunks(grid, video, audio, packaging)
    if video and source.video and screens and screens.drop_repeats:
        late = float(source.video.start_seconds - origin)
        chunks = tuple(_looked_at(chunk, grid, source.video, late) for chunk in chunks)
    if source.text:
        chunks += (Chunk(chunks[-1].number + 1, 0, grid.segments, 0, grid.frames, Mode.TEXT),)
    origin_ticks = round(origin * GRID_TICKS)
    board = _storyboard(grid, video, chunks, packaging.sprite_seconds)
    texts = text_tracks(source.text)
    plan = Plan("", origin_ticks, grid, video, audio, chunks, texts, board, source.gaps, source.continuous)
    text = json.dumps({"plan": plan.to_json(), "identity": identity}, sort_keys=True, default=str)
    return replace(plan, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:32])


def _placed(source: Source, origin: Fraction, seconds: Fraction) -> Fraction:
    """Output time of a source time."""
    return Fraction(closed(source.gaps, round(seconds * GRID_TICKS)), GRID_TICKS) - origin


def _origin(source: Source, rate: Fraction) -> Fraction:
    """Source time of output time 0: the first picture, or as many whole frames before it as the sound begins earlier.

    Sound that begins less than LEAD_SECONDS before the picture is cut: encoder priming, not speech.
    """
    if source.video is None:
        return source.start_seconds
    lead = source.video.start_seconds - source.start_seconds
    return source.video.start_seconds - (math.ceil(lead * rate) / rate if lead > LEAD_SECONDS else 0)


def _storyboard(
    grid: Grid, video: VideoTrack | None, chunks: tuple[Chunk, ...], sprite_seconds: float
) -> Storyboard | None:
    """Pictures scaled down from the lowest rung, in sheets about as wide as high that a whole chunk fills."""
    if video is None or not sprite_seconds:
        return None
    lowest = video.rungs[-1]
    width, height = fitted(lowest.width, lowest.height, SPRITE_SHORT, SPRITE_LONG)
    gops = max(1, round(grid.rate * Fraction(sprite_seconds) / grid.gop_frames))  # only key frames are looked at
    interval = gops * grid.gop_frames
    whole = max(chunk.frames for chunk in chunks if chunk.pictures)
    pictures = math.ceil(whole / interval)
    columns = min(SHEET_SIDE, math.isqrt(pictures - 1) + 1)
    return Storyboard(interval, width, height, columns, min(SHEET_SIDE, math.ceil(pictures / columns)))


def _chunks(grid: Grid, video: VideoTrack | None, audio: AudioTrack | None, packaging: Packaging) -> tuple[Chunk, ...]:
    chunks = []
    if audio:
        chunks.append(Chunk(AUDIO_CHUNK, 0, grid.segments, 0, grid.frames, Mode.SOUND))
    if video:
        whole = round(packaging.chunk_seconds / packaging.segment_seconds)
        step = max(1, min(whole, math.ceil(grid.segments / packaging.side_by_side)))
        step = step if video.seekable else grid.segments
        for number, first in enumerate(range(0, grid.segments, step), start=1):
            last = min(first + step, grid.segments)
            start = grid.boundary(first)
            chunks.append(Chunk(number, first, last - first, start, grid.boundary(last) - start))
    return tuple(chunks)


def _looked_at(chunk: Chunk, grid: Grid, stream: VideoStream, late: float) -> Chunk:
    """Whether the chunk's frames are compared, by what its stretch of the source looks like. `late`: seconds that the
    picture begins after output time 0. Closed gaps are not reckoned with: they misplace a decision, not a frame.
    """
    if chunk.mode is not Mode.GRID or stream.pixel_format not in COMPARED or stream.transfer in HDR:
        return chunk
    first, last = (float(frame / grid.rate) - late for frame in (chunk.first_frame, chunk.first_frame + chunk.frames))
    repeated = stream.look.repeated(grid.rate, max(0.0, first), max(0.0, last))
    return replace(chunk, mode=Mode.REPEATS) if repeated >= WORTH_LOOKING else chunk
