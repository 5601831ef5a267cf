"""What a source really is: its streams, the true times of their packets, and whether they decode.

Header durations lie and files without streams probe with status 0, so nothing is believed that was not seen: packets
give the times, and a trial decode of one frame decides whether a stream counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from appliance.adapters.ffmpeg import commands
from appliance.adapters.ffmpeg.run import Check, Ended, Limits, run
from appliance.adapters.ffmpeg.tools import Tools
from appliance.domain.errors import SourceRejected
from appliance.domain.media import AudioStream, Chapter, Source, TextStream, VideoStream, busiest_rate

#: Containers in which a seek lands on a key frame at or before the wanted time.
SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm"})
#: With key frames further apart, most of a chunk's time would go into decoding what lies before it.
LONGEST_GOP_SECONDS = 60
#: A last packet that claims to last longer than this is not believed.
LONGEST_LAST_FRAME_SECONDS = 10
#: What ffprobe may tell of a file. Twelve hours at 60 frames a second, with sound, take 200 MB of packet lines; beyond
#: it is a file made to fill the memory of whoever listens (F46).
DESCRIPTION_BYTES, PACKETS_BYTES = 32 << 20, 512 << 20
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
#: ffmpeg's decoders of subtitles that are drawn, not written.
BITMAP_SUBTITLES = frozenset(
    {"dvd_subtitle", "dvb_subtitle", "hdmv_pgs_subtitle", "xsub", "dvb_teletext", "arib_caption"}
)
#: More of them is an attack, not a lecture.
MOST_TEXTS, MOST_CHAPTERS, LONGEST_TAG = 40, 1000, 200
#: Untagged pictures of at least this short side are taken for BT.709, smaller ones for BT.601.
HD_SHORT_SIDE = 720
#: ffprobe's JSON of one stream, or of the whole file.
_Fields = dict[str, Any]
NEXT_STEP = "Upload the recording again, exported as MP4 (H.264 and AAC)."


@dataclass
class Packets:
    """The packet times of one stream, in its time base, in the order of the file."""

    time_base: Fraction
    times: list[int] = field(default_factory=list)
    last_end: int = 0
    decode_order_broken: bool = False
    #: The longest that a picture is decoded before it is shown, and the longest way between two key frames.
    reorder: int = 0
    longest_gop: int = 0
    _last_key: int | None = None
    _last_decode: int | None = None

    def add(self, pts: str, dts: str, duration: str, flags: str) -> None:
        """One CSV line of ffprobe; packets that an edit list cuts off (`D`) are not part of the presentation."""
        if dts.lstrip("-").isdigit():
            decode = int(dts)
            self.decode_order_broken |= self._last_decode is not None and decode < self._last_decode
            self._last_decode = decode
        time = pts if pts.lstrip("-").isdigit() else dts
        if "D" in flags or not time.lstrip("-").isdigit():
            return
        start = int(time)
        if dts.lstrip("-").isdigit():
            self.reorder = max(self.reorder, start - int(dts))
        if "K" in flags or self._last_key is None:
            self._last_key = start
        self.longest_gop = max(self.longest_gop, start - self._last_key)
        length = int(duration) if duration.isdigit() else 0
        if length * self.time_base > LONGEST_LAST_FRAME_SECONDS:
            length = 0
        self.times.append(start)
        self.last_end = max(self.last_end, start + length) if len(self.times) > 1 else start + length

    @property
    def start_seconds(self) -> Fraction:
        return min(self.times) * self.time_base

    @property
    def end_seconds(self) -> Fraction:
        return max(self.last_end, *self.times) * self.time_base


@dataclass(frozen=True)
class Probe:
    """Asks the programs. `limits` bound each single call."""

    tools: Tools
    limits: Limits
    max_pixels: int
    max_duration_seconds: float

    def __call__(self, directory: Path, check: Check, account: Callable[[Ended], None]) -> Source:
        """Probe `directory`/source. Raises SourceRejected with what is wrong with the file."""
        ask = _Asker(self, directory, check, account)
        described = ask.description()
        packets = ask.packets(described["streams"])
        video = ask.first_decodable("video", described, packets)
        audio = ask.first_decodable("audio", described, packets)
        if video is None and audio is None:
            raise _nothing_decodes(described)
        source = Source(
            container=described["format"].get("format_name", ""),
            video=_video(video, packets, described) if video else None,
            audio=_audio(audio, packets) if audio else None,
            text=ask.texts(described, packets),
            chapters=tuple(_chapters(described)),
            warnings=tuple(ask.warnings),
        )
        length = source.end_seconds - source.start_seconds
        if length > Fraction(self.max_duration_seconds):
            raise SourceRejected(
                f"The recording is {float(length) / 3600:.1f} h long; "
                f"{self.max_duration_seconds / 3600:.1f} h are allowed.",
                code="too_long",
                hint="Split it, or ask the operator to raise ffmpeg.max_duration.",
            )
        return source


@dataclass
class _Asker:
    """One probe in progress: the calls and what they warned of."""

    probe: Probe
    directory: Path
    check: Check
    account: Callable[[Ended], None]
    warnings: list[str] = field(default_factory=list)

    def _call(self, command: list[str], on_line: Callable[[str], None], most_bytes: int) -> Ended:
        left = most_bytes

        def bounded(line: str) -> None:
            nonlocal left
            left -= len(line) + 1
            if left < 0:
                raise SourceRejected("The file holds more packets or notes than any recording.", code="too_large")
            on_line(line)

        ended = run(command, directory=self.directory, limits=self.probe.limits, check=self.check, on_line=bounded)
        self.account(ended)
        return ended

    def description(self) -> _Fields:
        """ffprobe's JSON. Nothing in it is believed but kinds, sizes and tags."""
        lines: list[str] = []
        ended = self._call(
            commands.probe(self.probe.tools.ffprobe, self.probe.max_pixels), lines.append, DESCRIPTION_BYTES
        )
        try:
            described = json.loads("\n".join(lines) or "{}")
        except ValueError:
            described = {}
        if ended.status != 0 or not described.get("streams"):
            raise _unreadable(" ".join(ended.stderr).lower())
        return {name: described.get(name, empty) for name, empty in (("format", {}), ("streams", []), ("chapters", []))}

    def packets(self, streams: list[_Fields]) -> dict[int, Packets]:
        """Packet times by stream index; streams without a timed packet are left out."""
        found = {stream["index"]: Packets(Fraction(stream.get("time_base", "1/1000"))) for stream in streams}

        def take(line: str) -> None:
            fields = line.split(",")
            if len(fields) >= 5 and fields[0].isdigit() and int(fields[0]) in found:
                found[int(fields[0])].add(*fields[1:5])

        command = commands.packets(self.probe.tools.ffprobe, self.probe.max_pixels)
        ended = self._call(command, take, PACKETS_BYTES)
        if ended.stderr:
            self.warnings.append(f"The file is damaged in places: {ended.stderr[-1][:200]}")
        return {index: packets for index, packets in found.items() if packets.times}

    def first_decodable(self, kind: str, described: _Fields, packets: dict[int, Packets]) -> _Fields | None:
        """The first stream of the kind that decodes, those marked default first; cover art is not a video."""
        candidates: list[_Fields] = [
            stream
            for stream in described["streams"]
            if stream.get("codec_type") == kind
            and stream["index"] in packets
            and not stream.get("disposition", {}).get("attached_pic")
        ]
        candidates.sort(key=lambda stream: -stream.get("disposition", {}).get("default", 0))
        for stream in candidates:
            _refuse_protected(stream)
            if self._decodes(stream):
                return stream
            self.warnings.append(f"The {kind} stream {stream['index']} cannot be decoded and was left out.")
        return None

    def texts(self, described: _Fields, packets: dict[int, Packets]) -> tuple[TextStream, ...]:
        """The subtitles that come out as text; a track without a cue is none."""
        found: list[TextStream] = []
        for stream in described["streams"]:
            index, codec = stream["index"], stream.get("codec_name", "")
            if stream.get("codec_type") != "subtitle" or index not in packets:
                continue
            if codec in BITMAP_SUBTITLES:
                self.warnings.append(f"The subtitles in stream {index} are pictures, not text, and were left out.")
            elif len(found) == MOST_TEXTS or not self._decodes(stream):
                self.warnings.append(f"The subtitles in stream {index} cannot be decoded and were left out.")
            else:
                found.append(TextStream(index, codec, _tag(stream, "language", "und"), _tag(stream, "title")))
        return tuple(found)

    def _decodes(self, stream: _Fields) -> bool:
        checksums: list[str] = []
        kind = stream["codec_type"][0]
        command = commands.trial(self.probe.tools.ffmpeg, self.probe.max_pixels, stream["index"], kind)
        headings = ("#", "WEBVTT")

        def take(line: str) -> None:
            if line and not line.startswith(headings):
                checksums.append(line)

        self._call(command, take, DESCRIPTION_BYTES)
        return bool(checksums)


def _unreadable(words: str) -> SourceRejected:
    """ffprobe opened nothing; its words tell a protected or oversized recording from what is no recording at all."""
    if "encrypt" in words:
        return SourceRejected("The recording is copy-protected and cannot be read.", code="encrypted", hint=NEXT_STEP)
    if "max pixel count" in words:
        return SourceRejected("The picture has more pixels than the operator allows.", code="too_large", hint=NEXT_STEP)
    return SourceRejected(
        "The file is not a video or audio recording, or its beginning is damaged beyond reading.",
        code="not_media",
        hint=NEXT_STEP,
    )


def _refuse_protected(stream: _Fields) -> None:
    """Protected samples can decode as noise with status 0 (ISO/IEC 23001-7: sample entries `encv`, `enca`)."""
    if stream.get("codec_tag_string") in ("encv", "enca"):
        raise SourceRejected("The recording is copy-protected and cannot be read.", code="encrypted", hint=NEXT_STEP)


def _nothing_decodes(described: _Fields) -> SourceRejected:
    kinds = {stream.get("codec_type") for stream in described["streams"]}
    codecs = sorted({stream["codec_name"] for stream in described["streams"] if stream.get("codec_name")})
    if not kinds & {"video", "audio"}:
        return SourceRejected("The file holds neither picture nor sound.", code="no_media_stream", hint=NEXT_STEP)
    if not codecs or "unknown" in codecs or None in (s.get("codec_name") for s in described["streams"]):
        return SourceRejected("The file uses a codec that cannot be decoded here.", code="unsupported", hint=NEXT_STEP)
    return SourceRejected(
        f"Not one frame of the file can be decoded ({', '.join(codecs)}).", code="corrupt", hint=NEXT_STEP
    )


def _video(stream: _Fields, packets: dict[int, Packets], described: _Fields) -> VideoStream:
    times = packets[stream["index"]]
    width, height = stream["width"], stream["height"]
    aspect = _ratio(stream.get("sample_aspect_ratio", "1:1").replace(":", "/")) or Fraction(1)
    if _quarter_turned(stream):
        width, height, aspect = height, width, 1 / aspect
    rate = busiest_rate(
        [time * times.time_base for time in sorted(set(times.times))], _ratio(stream.get("r_frame_rate", "0/0"))
    )
    end = times.end_seconds
    if end == max(times.times) * times.time_base:  # no duration on the last packet
        end += 1 / rate
    containers = set(described["format"].get("format_name", "").split(","))
    return VideoStream(
        index=stream["index"],
        codec=stream.get("codec_name", ""),
        width=width,
        height=height,
        sample_aspect=aspect,
        pixel_format=stream.get("pix_fmt", ""),
        transfer=stream.get("color_transfer", ""),
        matrix=MATRICES.get(stream.get("color_space", ""))
        or ("bt709" if min(width, height) >= HD_SHORT_SIDE else "bt601"),
        interlaced=stream.get("field_order", "progressive") not in ("progressive", "unknown"),
        start_seconds=times.start_seconds,
        end_seconds=end,
        packets=len(times.times),
        busiest_rate=rate,
        seekable=bool(containers & SEEKABLE)
        and not times.decode_order_broken
        and times.longest_gop * times.time_base <= LONGEST_GOP_SECONDS,
        reorder_seconds=times.reorder * times.time_base,
    )


def _audio(stream: _Fields, packets: dict[int, Packets]) -> AudioStream:
    times = packets[stream["index"]]
    return AudioStream(
        index=stream["index"],
        codec=stream.get("codec_name", ""),
        channels=int(stream.get("channels", 2)),
        sample_rate=int(stream.get("sample_rate", 48_000)),
        language=_tag(stream, "language", "und"),
        start_seconds=times.start_seconds,
        end_seconds=times.end_seconds,
        title=_tag(stream, "title"),
    )


def _chapters(described: _Fields) -> Iterator[Chapter]:
    """Named parts that make sense: damaged files list thousands without a length."""
    for number, chapter in enumerate(described["chapters"][:MOST_CHAPTERS], start=1):
        base = _ratio(chapter.get("time_base", "")) or Fraction(1)
        start, end = Fraction(chapter.get("start", 0)) * base, Fraction(chapter.get("end", 0)) * base
        if start < end:
            yield Chapter(_tag(chapter, "title", f"Chapter {number}"), start, end)


def _tag(fields: _Fields, name: str, default: str = "") -> str:
    """A word that somebody typed into the file: printable, and no longer than a line."""
    said = "".join(letter for letter in str(fields.get("tags", {}).get(name, "")) if letter.isprintable())
    return said.strip()[:LONGEST_TAG] or default


def _quarter_turned(stream: _Fields) -> bool:
    """True when the display matrix turns the picture by ±90°; ffmpeg itself does the turning."""
    turns = [side.get("rotation", 0) for side in stream.get("side_data_list", []) if "rotation" in side]
    return bool(turns) and round(turns[0] / 90) % 2 == 1


def _ratio(text: str) -> Fraction | None:
    over, _, under = text.partition("/")
    if not (over.isdigit() and under.isdigit() and int(over) and int(under)):
        return None
    return Fraction(int(over), int(under))
