"""The packager: one fragmented MP4 as ffmpeg wrote it → an init segment and media segments cut on the plan's grid."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

from appliance.domain.errors import Transient
from appliance.streams import boxes
from appliance.streams.boxes import BadBoxes, Init, Sample

#: Between two frames of the grid as many samples can be decoded.
NARROW = 16


@dataclass(frozen=True)
class Gop:
    """One moof + mdat of a segment: where it lies in the file, and how far its first sample (the IDR) reaches.

    `offset` and `iframe_bytes` are the EXT-X-BYTERANGE of the I-frame playlist: from the moof to the end of the IDR.
    """

    offset: int
    iframe_bytes: int
    duration: int


@dataclass(frozen=True)
class Segment:
    """One media segment. `name` is relative to the chunk's directory; `duration` in ticks of the track's timescale."""

    name: str
    size_bytes: int
    duration: int
    samples: int
    gops: tuple[Gop, ...]


@dataclass(frozen=True)
class TrackObjects:
    """What one chunk holds of one track (a rung's name, or `audio`)."""

    track: str
    timescale: int
    #: RFC 6381, read from the bytes of avcC or esds.
    codec: str
    width: int
    height: int
    init_name: str
    init_bytes: int
    init_sha256: str
    segments: tuple[Segment, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> TrackObjects:
        segments = tuple(
            Segment(**{**segment, "gops": tuple(Gop(**gop) for gop in segment["gops"])})
            for segment in fields["segments"]
        )
        return cls(**{**fields, "segments": segments})

    @property
    def sizes(self) -> dict[str, int]:
        """Every object by its name."""
        return {self.init_name: self.init_bytes} | {segment.name: segment.size_bytes for segment in self.segments}


class Kind(StrEnum):
    """What a file beside the segments is."""

    #: One picture that stands for the video, `poster.jpg`.
    POSTER = "poster"
    #: A sheet of the storyboard, `sprite_00001.jpg`, …: numbered from 1 in each chunk.
    SPRITE = "sprite"
    #: A WebVTT file, `{track}.vtt`.
    TEXT = "text"


@dataclass(frozen=True)
class Extra:
    """A file beside the segments; `track` is the text track's name."""

    name: str
    kind: Kind
    size_bytes: int
    track: str = ""


@dataclass(frozen=True)
class Cost:
    """What it took to make a chunk, whoever did: seconds and bytes (`media_seconds` over all its tracks).

    `bytes_in`: of the source, fetched by an assistant for it; an owner's download is on its attempt's receipt.
    """

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    media_seconds: float = 0.0
    bytes_out: int = 0
    bytes_in: int = 0


@dataclass(frozen=True)
class ChunkObjects:
    """What a finished chunk's row records: its tracks and other files, all of them under the key `prefix`."""

    number: int
    prefix: str
    tracks: tuple[TrackObjects, ...]
    extras: tuple[Extra, ...] = ()
    cost: Cost = Cost()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, number: int, fields: dict[str, Any]) -> ChunkObjects:
        """Read back what the encoder of the chunk recorded."""
        return cls(
            number,
            fields["prefix"],
            tuple(TrackObjects.from_json(track) for track in fields["tracks"]),
            tuple(Extra(**{**extra, "kind": Kind(extra["kind"])}) for extra in fields["extras"]),
            Cost(**fields["cost"]),
            tuple(fields["warnings"]),
        )

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        del fields["number"]  # the row's own
        return fields

    def segments(self, track: str) -> tuple[Segment, ...]:
        """Those of one track; none where the chunk has none of it."""
        return tuple(segment for found in self.tracks if found.track == track for segment in found.segments)

    def sizes(self) -> dict[str, int]:
        """Every object by its key."""
        named = {name: size for track in self.tracks for name, size in track.sizes.items()}
        named |= {extra.name: extra.size_bytes for extra in self.extras}
        return {f"{self.prefix}/{name}": size for name, size in named.items()}


def package(
    source: Path,
    directory: Path,
    *,
    track: str,
    boundaries: list[int],
    first_segment: int,
    start: int,
    gop: int | None,
    timescale: int,
    frame_ticks: int,
    drop_priming: bool = False,
    stretch: int = 0,
) -> TrackObjects:
    """Cut what ffmpeg wrote of one track of one chunk into `{track}_init.mp4` and `{track}_00001.m4s`, ….

    `boundaries` counts the chunk's samples before each segment, and all of them at the end. Pictures get one moof per
    `gop` samples, sound (`gop` None) one per segment. `start` is the chunk's place in the presentation, in ticks.
    `drop_priming` leaves out the packet that the AAC encoder puts before the sound. With `stretch` samples may be
    missing, other than the first of a group of pictures: then the one before lasts longer; and the file's times are so
    many times those of the grid. Raises Transient `encode_failed` when the file does not hold exactly those samples.
    """
    try:
        with _mapped(source) as data:
            init = boxes.read_init(data)
            if init.timescale != timescale:
                raise BadBoxes(f"it counts {init.timescale} ticks a second, not {timescale}")
            cut = _Cut(data, init, gop=gop, start=start, frame_ticks=frame_ticks, stretch=stretch)
            if drop_priming:
                next(cut.samples, None)
            segments = tuple(
                cut.segment(directory / f"{track}_{number:05d}.m4s", number, first, last)
                for number, (first, last) in enumerate(pairwise(boundaries), start=first_segment + 1)
            )
            cut.finish()
            return _described(track, init, _write_init(data, directory / f"{track}_init.mp4"), segments)
    except BadBoxes as error:
        raise Transient(f"What ffmpeg wrote to {source.name} is not what was planned: {error}.") from error


def _write_init(data: mmap.mmap, path: Path) -> bytes:
    head = boxes.clean_init(data)
    path.write_bytes(head)
    return head


def _described(track: str, init: Init, head: bytes, segments: tuple[Segment, ...]) -> TrackObjects:
    return TrackObjects(
        track=track,
        timescale=init.timescale,
        codec=init.codec,
        width=init.width,
        height=init.height,
        init_name=f"{track}_init.mp4",
        init_bytes=len(head),
        init_sha256=hashlib.sha256(head).hexdigest(),
        segments=segments,
    )


@contextmanager
def _mapped(source: Path) -> Iterator[mmap.mmap]:
    with source.open("rb") as file:
        if not source.stat().st_size:
            raise BadBoxes("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


class _Cut:
    """Writes the segments of one track of one chunk, in order. What is counted in samples is counted on the grid."""

    def __init__(
        self, data: mmap.mmap, init: Init, *, gop: int | None, start: int, frame_ticks: int, stretch: int
    ) -> None:
        self._data = data
        self._init = init
        self._gop = gop
        self._first_frame = start // frame_ticks
        self._ticks = frame_ticks
        self._stretch = stretch
        fragments = boxes.read_fragments(data, init)
        self.samples = chain.from_iterable(fragment.samples for fragment in fragments)
        #: The sample that comes next, where it had to be looked at.
        self._ahead: Sample | None = None
        self._taken = 0
        #: Presentation time of the chunk's first sample in ffmpeg's file.
        self._origin: int | None = None

    def segment(self, path: Path, number: int, first: int, last: int) -> Segment:
        """Take the chunk's samples from `first` up to `last` and write segment `number` of the presentation."""
        gops, count = [], self._taken
        with path.open("wb") as file:
            for at in range(first, last, self._gop or last - first):
                end = min(at + (self._gop or last), last)
                samples = self._placed(at, end)
                head = self._head(samples, at, number)
                gops.append(Gop(file.tell(), len(head) + samples[0].size, (end - at) * self._ticks))
                file.write(head)
                file.writelines(self._data[sample.offset : sample.offset + sample.size] for sample in samples)
            size = file.tell()
        return Segment(path.name, size, (last - first) * self._ticks, self._taken - count, tuple(gops))

    def finish(self) -> None:
        """Nothing may be left."""
        more = sum(1 for _ in self.samples) + (self._ahead is not None)
        if more:
            raise BadBoxes(f"it holds {self._taken + more} samples instead of {self._taken}")

    def _placed(self, first: int, last: int) -> list[Sample]:
        """The samples, checked to be those of the grid from `first` to `last`, on our decode times."""
        samples = list(self._until(last)) if self._stretch else list(islice(self.samples, last - first))
        self._taken += len(samples)
        if len(samples) < (1 if self._stretch else last - first):
            raise BadBoxes(f"it ends after {self._taken} samples")
        shown = [self._shown(sample) for sample in samples]
        times, grid = sorted(shown), range(first * self._ticks, last * self._ticks, self._ticks)
        kept = times[0] == grid[0] and all(time in grid for time in times) and len(set(times)) == len(times)
        if not kept or (not self._stretch and len(times) != len(grid)):
            raise BadBoxes(f"samples {first} to {last - 1} do not lie on the grid of {self._ticks} ticks")
        if self._gop and not boxes.is_idr(boxes.nal_types(self._data, samples[0], self._init.nal_length_bytes)):
            raise BadBoxes(f"sample {first} begins a group of pictures and is no IDR")
        decoded = _in_time(shown, self._ticks // NARROW) if self._stretch else times
        ends = [*decoded[1:], last * self._ticks]
        return [
            sample._replace(composition=at - time, duration=end - time)
            for sample, at, time, end in zip(samples, shown, decoded, ends, strict=True)
        ]

    def _until(self, last: int) -> Iterator[Sample]:
        """The samples that are shown before `last`. Groups are closed: those of the next one all come later."""
        while (sample := self._ahead or next(self.samples, None)) is not None:
            self._ahead = None
            if self._shown(sample) >= last * self._ticks:
                self._ahead = sample
                return
            yield sample

    def _shown(self, sample: Sample) -> int:
        """When, in ticks since the chunk's first sample."""
        time = sample.decode_time + sample.composition
        if self._origin is None:
            self._origin = time
        return (time - self._origin) // (self._stretch or 1)

    def _head(self, samples: list[Sample], first: int, segment: int) -> bytes:
        """Fragments are numbered through the whole presentation, chunk after chunk (ISO/IEC 14496-12 §8.8.5)."""
        frame = self._first_frame + first
        return boxes.fragment_head(
            samples,
            sequence=1 + frame // self._gop if self._gop else segment,
            track_id=self._init.track_id,
            decode_time=frame * self._ticks,
            duration=self._ticks if {sample.duration for sample in samples} == {self._ticks} else None,
            video=self._gop is not None,
        )


def _in_time(shown: list[int], least: int) -> list[int]:
    """Decode times: as late as can be, `least` apart, and none later than the sample is shown.

    On a steady grid the times at which samples are shown will do, in their order; where one lasts a second they would
    have some decoded a second late, and what corrects that (readers built on ffmpeg) shows all later ones late.
    """
    times: list[int] = []
    for at in reversed(shown):
        times.append(min([at, *(time - least for time in times[-1:])]))
    return times[::-1]
