"""What a source really is: its streams, the true times of their packets, and whether they decode.

Header durations lie and files without streams probe with status 0, so nothing is believed that was not seen: packets
give the times, and a trial decode of one frame decides whether a stream counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from appliance.adapters.ffmpeg import commands
from appliance.adapters.ffmpeg.packets import Demuxed, Packets
from appliance.adapters.ffmpeg.pictures import MATRICES, Picture, changes, first_picture, flat, scanned
from appliance.adapters.ffmpeg.run import Check, Ended, Limits, run
from appliance.adapters.ffmpeg.tools import Tools
from appliance.adapters.ffmpeg.unplayable import Fields, nothing_decodes, refuse_protected, unreadable
from appliance.domain.content import WORTH_LOOKING, Look, moving
from appliance.domain.errors import SourceRejected
from appliance.domain.gaps import Gap, holes, shared
from appliance.domain.media import AudioStream, Chapter, Source, TextStream, VideoStream, busiest_rate, snap_rate
from appliance.domain.tracks import GRID_TICKS

#: Containers in which a seek lands on a key frame at or before the wanted time.
SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm"})
#: What ffprobe may tell of a file. Twelve hours at 60 frames a second, with sound, take 200 MB of packet lines; beyond
#: it is a file made to fill the memory of whoever listens (F46).
DESCRIPTION_BYTES, PACKETS_BYTES = 32 << 20, 512 << 20
#: With more frames between two key frames, most of a chunk's time would go into decoding what lies before it.
LONGEST_GOP = 1800
#: Containers in which recordings are joined by writing one behind the other.
JUMPING = frozenset({"mpegts", "mpeg"})
#: Codecs whose pictures may be two fields.
MAY_HAVE_FIELDS = frozenset(
    {"h264", "mpeg2video", "mpeg4", "vc1", "wmv3", "dvvideo", "mjpeg", "prores", "dnxhd", "ffv1", "huffyuv"}
    | {"utvideo", "rawvideo", "v210", "jpeg2000"}
)
#: Longer recordings are sampled a third of the way in: the beginning is often a still title.
SHORT_SECONDS = 12
#: Where in a recording its key frames are looked at.
LOOKED_AT = (Fraction(1, 6), Fraction(1, 2), Fraction(5, 6))
#: Dispositions of tracks that are not for everybody.
FOR_SOME = ("comment", "visual_impaired", "hearing_impaired", "dub", "karaoke", "lyrics", "still_image")
LIBVPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
#: ffmpeg's decoders of subtitles that are drawn, not written.
BITMAP_SUBTITLES = frozenset(
    {"dvd_subtitle", "dvb_subtitle", "hdmv_pgs_subtitle", "xsub", "dvb_teletext", "arib_caption"}
)
#: More of them is an attack, not a lecture.
MOST_TEXTS, MOST_TRIED, MOST_CHAPTERS, LONGEST_TAG = 40, 20, 1000, 200
#: Untagged pictures of at least this short side are taken for BT.709, smaller ones for BT.601.
HD_SHORT_SIDE = 720


@dataclass(frozen=True)
class Probe:
    """Asks the programs. `limits` bound each single call."""

    tools: Tools
    limits: Limits
    max_pixels: int
    max_duration_seconds: float
    #: A hole in all streams' timestamps that is longer is closed.
    close_gaps_seconds: float = 60.0
    #: Whether frames repeat is looked at, for whom repeats are dropped.
    looks: bool = False

    @property
    def settings(self) -> tuple[object, ...]:
        """What of them decides what is found. ffprobe's path names its release, and with it ours."""
        bounds = self.limits.memory_bytes, self.limits.cage, self.max_pixels, self.max_duration_seconds
        return self.tools.ffprobe, *bounds, self.close_gaps_seconds, self.looks

    def __call__(self, directory: Path, check: Check, account: Callable[[Ended], None]) -> Source:
        """Probe `directory`/source. Raises SourceRejected with what is wrong with the file."""
        ask = _Asker(self, directory, check)
        try:
            source = self._source(ask)
        finally:
            for ended in ask.runs:
                account(ended)
        self._refuse_length(source)
        return source

    def _source(self, ask: _Asker) -> Source:
        """What is heard and read is tried beside what is seen, which takes longer."""
        described = ask.description()
        packets = ask.packets(described)
        with ThreadPoolExecutor(1, thread_name_prefix="probe") as beside, ask.over_if_raised():
            audible = beside.submit(ask.first_decodable, "audio", described, packets)
            legible = beside.submit(ask.texts, described, packets)
            video = ask.first_decodable("video", described, packets)
            picture = _video(video, packets, described, ask) if video else None
        audio, text = audible.result(), legible.result()
        if video is None and audio is None:
            raise nothing_decodes(described, no_decoder=ask.no_decoder)
        return Source(
            container=described["format"].get("format_name", ""),
            video=picture,
            audio=_audio(audio, packets) if audio else None,
            text=text,
            chapters=tuple(_chapters(described)),
            gaps=self._gaps([packets[stream["index"]] for stream in (video, audio) if stream]),
            continuous=ask.continuous,
            warnings=(*ask.warnings, *(ask.left_out[index] for index in sorted(ask.left_out))),
        )

    def _gaps(self, streams: list[Packets]) -> tuple[Gap, ...]:
        least = Fraction(self.close_gaps_seconds)
        return shared([holes(packets.times, packets.time_base, least) for packets in streams], least, GRID_TICKS)

    def _refuse_length(self, source: Source) -> None:
        length = source.end_seconds - source.start_seconds - Fraction(sum(g.length for g in source.gaps), GRID_TICKS)
        if length > Fraction(self.max_duration_seconds):
            raise SourceRejected(
                f"The recording is {float(length) / 3600:.1f} h long; "
                f"{self.max_duration_seconds / 3600:.1f} h are allowed.",
                code="too_long",
                hint="Split it, or ask the operator to raise ffmpeg.max_duration.",
            )


@dataclass
class _Asker:
    """One probe in progress, from two threads: the calls and what they warned of."""

    probe: Probe
    directory: Path
    check: Check
    runs: list[Ended] = field(default_factory=list)
    #: Of the whole file.
    warnings: list[str] = field(default_factory=list)
    #: Why, by stream.
    left_out: dict[int, str] = field(default_factory=dict)
    #: The file's clock jumps back; ffmpeg has to make one clock of it.
    continuous: bool = False
    #: A stream is in a codec that this build of ffmpeg does not know.
    no_decoder: bool = False
    #: What the trial decode of each stream's first picture showed, by stream.
    pictures: dict[int, Picture] = field(default_factory=dict)
    #: Whoever asked has raised; what the thread beside does is for nobody.
    over: bool = False

    @contextmanager
    def over_if_raised(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.over = True
            raise

    def _check(self) -> None:
        self.check()
        if self.over:
            raise CancelledError

    def _call(self, command: list[str], on_line: Callable[[str], None], most_bytes: int) -> Ended:
        left = most_bytes

        def bounded(line: str) -> None:
            nonlocal left
            left -= len(line) + 1
            if left < 0:
                raise SourceRejected("The file holds more packets or notes than any recording.", code="too_large")
            on_line(line)

        ended = run(command, directory=self.directory, limits=self.probe.limits, check=self._check, on_line=bounded)
        self.runs.append(ended)
        return ended

    def description(self) -> Fields:
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
            raise unreadable(" ".join(ended.stderr).lower())
        return {name: described.get(name, empty) for name, empty in (("format", {}), ("streams", []), ("chapters", []))}

    def packets(self, described: Fields) -> dict[int, Packets]:
        """Packet times by stream index; streams without a timed packet are left out."""
        found = self._demuxed(described)
        jumps = any(packets.backwards for packets in found.streams.values())
        if jumps and described["format"].get("format_name", "") in JUMPING:
            # joined recordings, each with a clock of its own; without -copyts ffmpeg's own clock begins at zero
            start = Fraction(described["format"].get("start_time", "0"))
            found = self._demuxed(described, mend=True, offset=-start)
            self.continuous = True
            self.warnings.append("The recording's clock jumps back; its parts were put one after another.")
        return {index: packets for index, packets in found.streams.items() if packets.times}

    def _demuxed(self, described: Fields, *, mend: bool = False, offset: Fraction = Fraction(0)) -> Demuxed:
        bases = {stream["index"]: Fraction(stream.get("time_base", "1/1000")) for stream in described["streams"]}
        found = Demuxed({index: Packets(base) for index, base in bases.items()}, mend=mend, offset=offset)
        command = commands.packets(self.probe.tools.ffprobe, self.probe.max_pixels)
        ended = self._call(command, found.take, PACKETS_BYTES)
        if ended.stderr and not mend:
            self.warnings.append(f"The file is damaged in places: {ended.stderr[-1][:200]}")
        return found

    def first_decodable(self, kind: str, described: Fields, packets: dict[int, Packets]) -> Fields | None:
        """The first stream of the kind that decodes, in the order of the file; cover art is not a video.

        Those marked default come first, those made for some listeners only (comments, descriptions) last.
        """
        candidates: list[Fields] = [
            stream
            for stream in described["streams"]
            if stream.get("codec_type") == kind
            and stream["index"] in packets
            and not stream.get("disposition", {}).get("attached_pic")
        ]
        candidates.sort(key=lambda stream: _rank(stream.get("disposition", {})))
        for stream in candidates[:MOST_TRIED]:
            refuse_protected(stream)
            if self._decodes(stream):
                return stream
            index = stream["index"]
            self.left_out[index] = f"The {kind} stream {index} cannot be decoded and was left out."
        return None

    def texts(self, described: Fields, packets: dict[int, Packets]) -> tuple[TextStream, ...]:
        """The subtitles that come out as text; a track without a cue is none."""
        found: list[TextStream] = []
        for stream in described["streams"]:
            index, codec = stream["index"], stream.get("codec_name", "")
            if stream.get("codec_type") != "subtitle" or index not in packets:
                continue
            if codec in BITMAP_SUBTITLES:
                self.left_out[index] = f"The subtitles in stream {index} are pictures, not text, and were left out."
            elif len(found) == MOST_TEXTS or not self._decodes(stream):
                self.left_out[index] = f"The subtitles in stream {index} cannot be decoded and were left out."
            else:
                found.append(TextStream(index, codec, _tag(stream, "language", "und"), _tag(stream, "title")))
        return tuple(found)

    def _decodes(self, stream: Fields) -> bool:
        checksums: list[str] = []
        kind = stream["codec_type"][0]
        command = commands.trial(
            self.probe.tools.ffmpeg, self.probe.max_pixels, stream["index"], kind, decoder=_decoder(stream)
        )
        headings = ("#", "WEBVTT")

        def take(line: str) -> None:
            if line and not line.startswith(headings):
                checksums.append(line)

        ended = self._call(command, take, DESCRIPTION_BYTES)
        picture = first_picture(ended.stderr) if kind == "v" else None
        if picture:
            self.pictures[stream["index"]] = picture
        if any("no decoder found" in line for line in ended.stderr):
            self.no_decoder = True
        return bool(checksums)

    def fields(self, stream: Fields, length_seconds: Fraction, rate: Fraction) -> tuple[str, float | None]:
        """Which field comes first, empty for whole pictures: a sample is looked at where it may have fields at all.

        With it, how many frames a second of the grid are changes.
        """
        flagged = stream.get("field_order", "progressive") not in ("progressive", "unknown")
        if stream.get("codec_name") not in MAY_HAVE_FIELDS:
            return "", None
        at = float(length_seconds / 3) if length_seconds > SHORT_SECONDS else 0.0
        probe = self.probe
        grid = snap_rate(rate) if probe.looks else None
        command = commands.scan(probe.tools.ffmpeg, probe.max_pixels, stream["index"], at, grid=grid)
        lines: list[str] = []
        words = self._call(command, lines.append, DESCRIPTION_BYTES).stderr
        return scanned(words, flagged=flagged), changes(words, lines, rate) if probe.looks else None

    def look(self, stream: Fields, times: Packets, changed: float | None, rate: Fraction) -> Look:
        """How often the picture changes, by its packets; where it repeats, how flat three of its key frames are."""
        length, picture = times.end_seconds - times.start_seconds, self.pictures[stream["index"]]
        pixels = picture.width * picture.height
        grid = snap_rate(rate)
        found = Look(moving(times.times, times.sizes, pixels, times.time_base, grid), changed)
        if found.repeated(grid) < WORTH_LOOKING:
            return found
        lines: list[str] = []
        at = [float(length * share) for share in LOOKED_AT]
        command = commands.look(
            self.probe.tools.ffmpeg, self.probe.max_pixels, stream["index"], at, decoder=_decoder(stream)
        )
        self._call(command, lines.append, DESCRIPTION_BYTES)
        return replace(found, flat=flat(lines))


def _rank(disposition: dict[str, int]) -> tuple[int, int]:
    return sum(disposition.get(name, 0) for name in FOR_SOME), -disposition.get("default", 0)


def _decoder(stream: Fields) -> str:
    """Transparent WebM carries a second picture that only libvpx decodes."""
    transparent = stream.get("tags", {}).get("alpha_mode") == "1"
    return LIBVPX.get(stream.get("codec_name", ""), "") if transparent else ""


def _video(stream: Fields, packets: dict[int, Packets], described: Fields, ask: _Asker) -> VideoStream:
    times = packets[stream["index"]]
    picture = ask.pictures[stream["index"]]
    rate = busiest_rate(
        [time * times.time_base for time in sorted(set(times.times))], _ratio(stream.get("r_frame_rate", "0/0"))
    )
    end = times.end_seconds
    if end == max(times.times) * times.time_base:  # no duration on the last packet
        end += 1 / rate
    containers = set(described["format"].get("format_name", "").split(","))
    hd = min(picture.width, picture.height) >= HD_SHORT_SIDE
    fields, changed = ask.fields(stream, end - times.start_seconds, rate)
    seekable = bool(containers & SEEKABLE) and not times.backwards and times.longest_gop <= LONGEST_GOP
    return VideoStream(
        index=stream["index"],
        codec=stream.get("codec_name", ""),
        width=picture.width,
        height=picture.height,
        sample_aspect=picture.sample_aspect,
        pixel_format=picture.pixel_format,
        transfer=picture.transfer,
        matrix=MATRICES.get(picture.matrix) or ("bt709" if hd else "bt601"),
        fields=fields,
        start_seconds=times.start_seconds,
        end_seconds=end,
        packets=len(times.times),
        busiest_rate=rate,
        seekable=seekable,
        reorder_seconds=times.reorder * times.time_base,
        full_range=picture.full_range,
        transparent=picture.transparent,
        decoder=_decoder(stream),
        look=ask.look(stream, times, changed, rate) if seekable and ask.probe.looks else Look(),
    )


def _audio(stream: Fields, packets: dict[int, Packets]) -> AudioStream:
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


def _chapters(described: Fields) -> Iterator[Chapter]:
    """Named parts that make sense: damaged files list thousands without a length."""
    for number, chapter in enumerate(described["chapters"][:MOST_CHAPTERS], start=1):
        base = _ratio(chapter.get("time_base", "")) or Fraction(1)
        start, end = Fraction(chapter.get("start", 0)) * base, Fraction(chapter.get("end", 0)) * base
        if start < end:
            yield Chapter(_tag(chapter, "title", f"Chapter {number}"), start, end)


def _tag(fields: Fields, name: str, default: str = "") -> str:
    """A word that somebody typed into the file: printable, and no longer than a line."""
    said = "".join(letter for letter in str(fields.get("tags", {}).get(name, "")) if letter.isprintable())
    return said.strip()[:LONGEST_TAG] or default


def _ratio(text: str) -> Fraction | None:
    over, _, under = text.partition("/")
    if not (over.isdigit() and under.isdigit() and int(over) and int(under)):
        return None
    return Fraction(int(over), int(under))
