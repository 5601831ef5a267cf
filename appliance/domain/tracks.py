"""What happens to each stream of a source: to the picture, the sound and the subtitles."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from appliance.domain.content import Content
from appliance.domain.loudness import Loudness
from appliance.domain.media import (
    AudioStream,
    LadderStep,
    Rendition,
    TextStream,
    VideoStream,
    display_size,
    ladder,
)

#: A grid on which every rate of ours has whole ticks; the filters' time base while frames are put on the grid.
GRID_TICKS = 720_000
#: YCbCr in three planes of the same depth; everything else (RGB, palettes, grey) is swscale's to make YCbCr of.
PLANES = re.compile(r"yuvj?(420|422|444)p(10le|12le)?$")
#: Transfers that are tone-mapped: PQ and HLG.
HDR = ("smpte2084", "arib-std-b67")


@dataclass(frozen=True)
class Screens:
    """What an operator set about what stands still. For screens: x264's preset and tune, and CRF to add."""

    drop_repeats: bool = True
    preset: str = ""
    tune: str = ""
    crf: float = 0.0


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
    #: Plain YCbCr: colours can be changed plane by plane.
    planes: bool = False
    #: Has to be put on a ground.
    transparent: bool = False
    #: Empty: ffmpeg's choice.
    decoder: str = ""
    #: How x264 is set for this video; `why` is what was measured.
    content: Content = Content.CAMERA
    why: str = ""
    preset: str = ""
    tune: str = ""

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> VideoTrack:
        rungs = tuple(Rendition(**rung) for rung in fields["rungs"])
        return cls(**{**fields, "rungs": rungs, "content": Content(fields["content"])})


@dataclass(frozen=True)
class AudioTrack:
    """What happens to the sound: `bitrate` in bit/s, mono or stereo at 48 kHz."""

    stream_index: int
    channels: int
    bitrate: int
    language: str
    #: Where the sound is brought to; None: it stays as it is.
    loudness: Loudness | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> AudioTrack:
        return cls(**{**fields, "loudness": fields["loudness"] and Loudness(**fields["loudness"])})


@dataclass(frozen=True)
class TextTrack:
    """Subtitles that become one WebVTT file: `name` (`text1`, …) is the file's, `language` what the container says."""

    name: str
    stream_index: int
    language: str
    title: str


def video_track(
    stream: VideoStream | None, steps: tuple[LadderStep, ...], screens: Screens | None, rate: Fraction, frames: int
) -> VideoTrack | None:
    """`frames`: of the grid at `rate`, to the end of the picture."""
    if stream is None:
        return None
    width, height = display_size(stream.width, stream.height, stream.sample_aspect)
    rungs = ladder(width, height, steps)
    content = stream.look.content(rate)
    special = screens if screens and content is Content.SCREEN else Screens()
    return VideoTrack(
        stream_index=stream.index,
        source_width=stream.width,
        source_height=stream.height,
        width=width,
        height=height,
        deinterlace=stream.fields,
        tone_map=stream.transfer if stream.transfer in HDR else "",
        matrix=stream.matrix,
        frames=frames,
        rungs=tuple(replace(rung, crf=rung.crf + special.crf) for rung in rungs),
        seekable=stream.seekable,
        reorder_ticks=math.ceil(stream.reorder_seconds * GRID_TICKS),
        full_range=stream.full_range,
        letterbox=not (stream.width % 2 or stream.height % 2 or stream.pixel_format.startswith("yuv41")),
        planes=PLANES.match(stream.pixel_format) is not None,
        transparent=stream.transparent,
        decoder=stream.decoder,
        content=content,
        why=stream.look.why(rate),
        preset=special.preset,
        tune=special.tune,
    )


def audio_track(stream: AudioStream | None, loudness: Loudness | None) -> AudioTrack | None:
    """In mono or stereo, at the bit rate that goes with it."""
    if stream is None:
        return None
    mono = stream.channels == 1
    return AudioTrack(stream.index, 1 if mono else 2, 80_000 if mono else 128_000, stream.language, loudness)


def text_tracks(streams: tuple[TextStream, ...]) -> tuple[TextTrack, ...]:
    """Numbered from 1."""
    return tuple(
        TextTrack(f"text{number}", stream.index, stream.language, stream.title)
        for number, stream in enumerate(streams, start=1)
    )
