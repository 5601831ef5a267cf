"""A published stream read back: its playlists, and what every box of every segment says, as facts to be judged."""

from __future__ import annotations

import hashlib
import posixpath
from array import array
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeVar

from appliance.streams import boxes, m3u8
from appliance.streams.boxes import BadBoxes, Init
from appliance.streams.m3u8 import BadPlaylist, Entry, Master, Media, Variant

#: Key → bytes; an error that it raises (storage gone, lease lost) passes through.
Read = Callable[[str], bytes]
#: (key of an object, what is wrong with it, as a sentence).
Finding = tuple[str, str]
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Moof:
    """One fragment of a segment. Times in ticks; `reach_bytes` from the moof to the end of its first sample."""

    offset: int
    reach_bytes: int
    sequence: int
    decode_time: int
    duration: int
    idr: bool


@dataclass(frozen=True)
class SegmentFacts:
    """One media segment. `times` are the presentation times of its samples in ticks, sorted."""

    key: str
    entry: Entry
    size_bytes: int
    moofs: tuple[Moof, ...]
    times: array[int]
    #: Ticks of the sample that is shown shortest.
    shortest: int

    @property
    def start(self) -> int:
        return self.moofs[0].decode_time

    @property
    def duration(self) -> int:
        return sum(moof.duration for moof in self.moofs)


@dataclass(frozen=True)
class Track:
    """One media playlist, all of whose objects could be read."""

    key: str
    media: Media
    init_key: str
    init_sha256: str
    init: Init
    segments: tuple[SegmentFacts, ...]

    @property
    def video(self) -> bool:
        return self.init.width > 0

    def seconds(self, ticks: int) -> Fraction:
        return Fraction(ticks, self.init.timescale)

    @property
    def duration(self) -> Fraction:
        """Seconds of all samples."""
        return self.seconds(sum(segment.duration for segment in self.segments))

    @property
    def weights(self) -> list[tuple[int, Fraction]]:
        """Bytes and seconds of each segment."""
        return [(segment.size_bytes, self.seconds(segment.duration)) for segment in self.segments]


@dataclass(frozen=True)
class Stream:
    """Everything that could be read, and a finding for everything that could not."""

    master_key: str
    master: Master
    #: Media and I-frame playlists by key.
    playlists: dict[str, Media]
    tracks: dict[str, Track]
    unreadable: tuple[Finding, ...]

    def variants(self) -> Iterator[tuple[Variant, Track]]:
        """Each variant whose segments could be read."""
        for variant in self.master.variants:
            track = self.tracks.get(resolve(self.master_key, variant.uri))
            if track:
                yield variant, track

    def pictures(self) -> list[Track]:
        """The video tracks, in the order of the master."""
        return [track for _, track in self.variants() if track.video]

    def renditions(self, group: str | None = None) -> list[tuple[dict[str, str], Track]]:
        """The audio renditions whose segments could be read; all of them, or those of one group."""
        said = [item for item in self.master.renditions if item.get("TYPE") == "AUDIO" and item.get("URI")]
        found = [(item, self.tracks.get(resolve(self.master_key, item["URI"]))) for item in said]
        return [(item, track) for item, track in found if track and group in {None, item.get("GROUP-ID")}]

    def iframes(self) -> Iterator[tuple[dict[str, str], str, Media]]:
        """Each EXT-X-I-FRAME-STREAM-INF with its playlist and the playlist's key."""
        for item in self.master.iframes:
            key = resolve(self.master_key, item.get("URI", ""))
            if key in self.playlists:
                yield item, key, self.playlists[key]


def resolve(playlist: str, uri: str) -> str:
    """The key of what a playlist names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(playlist), uri))


def read_stream(read: Read, sizes: Mapping[str, int], master: str, *, readers: int) -> Stream:
    """Follow the master to every object that it names. `sizes` lists what exists."""
    reader = _Reader(read, sizes)
    top = reader.playlist(master, m3u8.parse_master) or Master()
    named = [variant.uri for variant in top.variants] + [item["URI"] for item in top.renditions if "URI" in item]
    tracks = [resolve(master, uri) for uri in named]
    iframes = [resolve(master, item["URI"]) for item in top.iframes if "URI" in item]
    read_back = {key: reader.playlist(key, m3u8.parse_media) for key in dict.fromkeys(tracks + iframes)}
    playlists = {key: media for key, media in read_back.items() if media}
    with ThreadPoolExecutor(readers, thread_name_prefix="proof") as pool:
        found = {key: reader.track(key, playlists[key], pool) for key in dict.fromkeys(tracks) if key in playlists}
    whole = {key: track for key, track in found.items() if track}
    return Stream(master, top, playlists, whole, tuple(dict.fromkeys(reader.unreadable)))


class _Reader:
    """Reads objects, and notes those that it cannot."""

    def __init__(self, read: Read, sizes: Mapping[str, int]) -> None:
        self._read = read
        self._sizes = sizes
        self.unreadable: list[Finding] = []

    def playlist(self, key: str, parse: Callable[[str], Parsed]) -> Parsed | None:
        return self._object(key, lambda data: parse(data.decode()))

    def track(self, key: str, media: Media, pool: ThreadPoolExecutor) -> Track | None:
        """The track, or None when it names nothing or anything of it cannot be read."""
        if not media.map_uri or not media.entries:
            self.unreadable.append((key, "The playlist has no EXT-X-MAP or names no segment."))
            return None
        init_key = resolve(key, media.map_uri)
        init = self._object(init_key, lambda data: (boxes.read_init(data), hashlib.sha256(data).hexdigest()))
        if init is None:
            return None
        found = list(pool.map(partial(self._segment, key, init[0]), media.entries))
        segments = tuple(segment for segment in found if segment)
        return Track(key, media, init_key, init[1], init[0], segments) if len(segments) == len(found) else None

    def _segment(self, playlist: str, init: Init, entry: Entry) -> SegmentFacts | None:
        key = resolve(playlist, entry.uri)
        return self._object(key, lambda data: _facts(key, entry, data, init))

    def _object(self, key: str, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        if key not in self._sizes:
            self.unreadable.append((key, "A playlist names it, and it does not exist."))
            return None
        try:
            return parse(self._read(key))
        except (BadBoxes, BadPlaylist, UnicodeDecodeError) as error:
            self.unreadable.append((key, f"It cannot be read: {error}."))
            return None


def _facts(key: str, entry: Entry, data: bytes, init: Init) -> SegmentFacts:
    if entry.range:
        raise BadBoxes("a media playlist names only a range of it")
    moofs, times, shortest = [], array("q"), 0
    for fragment in boxes.read_fragments(data, init):
        samples = list(fragment.samples)
        if not samples or sum(sample.size for sample in samples) != fragment.end - fragment.body:
            raise BadBoxes(f"the samples of the moof at byte {fragment.start} do not fill its mdat")
        nals = [boxes.nal_types(data, sample, init.nal_length_bytes) for sample in samples if init.nal_length_bytes]
        durations = [sample.duration for sample in samples]
        if not all(durations):
            raise BadBoxes(f"a sample of the moof at byte {fragment.start} lasts no time")
        times.extend(sample.decode_time + sample.composition for sample in samples)
        shortest = min([*durations, shortest or max(durations)])
        moofs.append(
            Moof(
                offset=fragment.start,
                reach_bytes=samples[0].offset + samples[0].size - fragment.start,
                sequence=fragment.sequence,
                decode_time=fragment.decode_time,
                duration=sum(durations),
                idr=bool(nals) and boxes.is_idr(nals[0]),
            )
        )
    if not moofs:
        raise BadBoxes("there is no moof in it")
    return SegmentFacts(key, entry, len(data), tuple(moofs), array("q", sorted(times)), shortest)
