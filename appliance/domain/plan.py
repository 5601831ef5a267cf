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

from appliance.domain.gaps import Gap, closed
from appliance.domain.loudness import Loudness
from appliance.domain.media import (
    AudioStream,
    LadderStep,
    Rendition,
    Source,
    TextStream,
    display_size,
    fitted,
    ladder,
    snap_rate,
)

#: Raised when the meaning of a plan changes, so that no half of an old one is continued under new rules.
PLAN_REVISION = 3
AUDIO_CHUNK = 0
#: AAC-LC: 1024 samples a frame (ISO/IEC 14496-3), at the ladder's 48 kHz.
AAC_FRAME_SAMPLES = 1024
AUDIO_RATE = 48_000
AUDIO_TRACK = "audio"
#: Video timescale of the rates that divide it; the NTSC rates count in 1/24000 and 1/30000 s instead.
VIDEO_TIMESCALE = 90_000
#: A grid on which every rate of ours has whole ticks; the filters' time base while frames are put on the grid.
GRID_TICKS = 720_000
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


@dataclass(frozen=True)
class VideoTrack:
    """What happens to the picture before the ladder."""

    stream_index: int
    #: As the decoder gives it, upright; frames of another size are fitted into it.
    source_width: int
    source_height: int
    #: With square pixels.
    width: int
    height: int
    #: Which field comes first (`tff`, `bff`, `auto`); empty for whole pictures.
    deinterlace: str
    #: Empty for SDR, else the source's transfer, to be tone-mapped.
    tone_map: str
    #: The source's YCbCr matrix, as swscale names it.
    matrix: str
    #: Grid frames from output time 0 to the end of the picture; fewer than the grid's where the sound goes on.
    frames: int
    rungs: tuple[Rendition, ...]
    #: False: chunks are cut by decoding from the start (then there is only one).
    seekable: bool
    #: How much earlier than a picture's time a seek must aim, in GRID_TICKS.
    reorder_ticks: int = 0
    full_range: bool = False
    #: Pictures of another shape can be put into the size; in some formats bars of odd widths cannot be drawn.
    letterbox: bool = True
    #: Has to be put on a ground.
    transparent: bool = False
    #: Empty: ffmpeg's choice.
    decoder: str = ""


@dataclass(frozen=True)
class AudioTrack:
    """What happens to the sound: `bitrate` in bit/s, mono or stereo at 48 kHz."""

    stream_index: int
    channels: int
    bitrate: int
    language: str
    #: Where the sound is brought to; None: it stays as it is.
    loudness: Loudness | None = None


@dataclass(frozen=True)
class TextTrack:
    """Subtitles that become one WebVTT file: `name` (`text1`, …) is the file's, `language` what the container says."""

    name: str
    stream_index: int
    language: str
    title: str


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
    revision: int = PLAN_REVISION

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
            video=VideoTrack(**{**video, "rungs": tuple(Rendition(**rung) for rung in video["rungs"])})
            if video
            else None,
            audio=AudioTrack(**{**audio, "loudness": audio["loudness"] and Loudness(**audio["loudness"])})
            if audio
            else None,
            chunks=tuple(Chunk(**{**chunk, "mode": Mode(chunk["mode"])}) for chunk in fields["chunks"]),
            text=tuple(TextTrack(**track) for track in fields["text"]),
            storyboard=Storyboard(**fields["storyboard"]) if fields["storyboard"] else None,
            gaps=tuple(Gap(**gap) for gap in fields["gaps"]),
            continuous=fields["continuous"],
            source_etag=fields["source_etag"],
            source_bytes=fields["source_bytes"],
            revision=fields["revision"],
        )


def make_plan(
    source: Source,
    *,
    identity: dict[str, object],
    steps: tuple[LadderStep, ...],
    packaging: Packaging,
    loudness: Loudness | None = None,
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
    video = _video_track(source, steps, grid, origin)
    audio = _audio_track(source.audio, loudness)
    chunks = _chunks(grid, video, audio, packaging)
    if source.text:
        chunks += (Chunk(chunks[-1].number + 1, 0, grid.segments, 0, grid.frames, Mode.TEXT),)
    origin_ticks = round(origin * GRID_TICKS)
    board = _storyboard(grid, video, chunks, packaging.sprite_seconds)
    texts = _text_tracks(source.text)
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


def _video_track(source: Source, steps: tuple[LadderStep, ...], grid: Grid, origin: Fraction) -> VideoTrack | None:
    stream = source.video
    if stream is None:
        return None
    width, height = display_size(stream.width, stream.height, stream.sample_aspect)
    return VideoTrack(
        stream_index=stream.index,
        source_width=stream.width,
        source_height=stream.height,
        width=width,
        height=height,
        deinterlace=stream.fields,
        tone_map=stream.transfer if stream.transfer in ("smpte2084", "arib-std-b67") else "",
        matrix=stream.matrix,
        frames=max(1, min(grid.frames, round(_placed(source, origin, stream.end_seconds) * grid.rate))),
        rungs=ladder(width, height, steps),
        seekable=stream.seekable,
        reorder_ticks=math.ceil(stream.reorder_seconds * GRID_TICKS),
        full_range=stream.full_range,
        letterbox=not (stream.width % 2 or stream.height % 2 or stream.pixel_format.startswith("yuv41")),
        transparent=stream.transparent,
        decoder=stream.decoder,
    )


def _audio_track(stream: AudioStream | None, loudness: Loudness | None) -> AudioTrack | None:
    if stream is None:
        return None
    mono = stream.channels == 1
    return AudioTrack(stream.index, 1 if mono else 2, 80_000 if mono else 128_000, stream.language, loudness)


def _text_tracks(streams: tuple[TextStream, ...]) -> tuple[TextTrack, ...]:
    return tuple(
        TextTrack(f"text{number}", stream.index, stream.language, stream.title)
        for number, stream in enumerate(streams, start=1)
    )


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
    whole = max(chunk.frames for chunk in chunks if chunk.mode is Mode.GRID)
    pictures = math.ceil(whole / interval)
    columns = min(SHEET_SIDE, math.isqrt(pictures - 1) + 1)
    return Storyboard(interval, width, height, columns, min(SHEET_SIDE, math.ceil(pictures / columns)))


def _chunks(grid: Grid, video: VideoTrack | None, audio: AudioTrack | None, packaging: Packaging) -> tuple[Chunk, ...]:
    chunks = []
    if audio:
        chunks.append(Chunk(AUDIO_CHUNK, 0, grid.segments, 0, grid.frames, Mode.SOUND))
    if video:
        at_most = min(packaging.chunk_seconds / packaging.segment_seconds, grid.segments / packaging.side_by_side)
        step = max(1, round(at_most)) if video.seekable else grid.segments
        for number, first in enumerate(range(0, grid.segments, step), start=1):
            last = min(first + step, grid.segments)
            start = grid.boundary(first)
            chunks.append(Chunk(number, first, last - first, start, grid.boundary(last) - start))
    return tuple(chunks)
