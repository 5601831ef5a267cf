"""A published stream read back: its playlists, and what every box of every segment says, as facts to be judged."""

from __future__ import annotations

import hashlib
import posixpath
from array import array
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import TypeVar
from urllib.parse import urljoin

from appliance.domain.stored import Absent, Stored, TooMuch
from appliance.streams import boxes, cues, m3u8
from appliance.streams.boxes import BadBoxes, Init
from appliance.streams.cues import BadText, Text
from appliance.streams.m3u8 import BadPlaylist, Entry, Master, Media, Range, Variant

#: (key, range or None for the whole) → object. Raises Absent or TooMuch, which become findings; whatever else it
#: raises (storage gone, lease lost) passes through.
Read = Callable[[str, Range | None], Stored]
#: (key of an object, what is wrong with it, as a sentence).
Finding = tuple[str, str]
Parsed = TypeVar("Parsed")
#: (bytes, seconds).
Weight = tuple[int, Fraction]
#: Boxes that a fragmented MP4 segment may begin with (ISO/IEC 14496-12 §8.16, ISO/IEC 23009-1 §5.10.3).
FRAGMENT_BOXES = {b"styp", b"moof", b"sidx", b"emsg", b"prft", b"ftyp"}
#: Objects that are read at most: a day in six rungs of six seconds.
MOST = 100_000
#: A transport stream packet (ISO/IEC 13818-1 §2.4.3.2).
TS_BYTES, TS_SYNC = 188, 0x47


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
    #: Presentation times of the sync samples.
    keys: tuple[int, ...] = ()

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
    #: Codecs of other tracks in the same segments.
    beside: tuple[Init, ...] = ()

    @property
    def video(self) -> bool:
        return self.init.width > 0

    def seconds(self, ticks: int) -> Fraction:
        return Fraction(ticks, self.init.timescale)

    @property
    def duration(self) -> Fraction:
        """Seconds of all samples."""
        return self.seconds(sum(segment.duration for segment in self.segments))

    def runs(self) -> Iterator[list[SegmentFacts]]:
        """The segments between discontinuities."""
        run: list[SegmentFacts] = []
        for segment in self.segments:
            if segment.entry.discontinuity and run:
                yield run
                run = []
            run.append(segment)
        yield run


@dataclass(frozen=True)
class Stream:
    """Everything that could be read, and a finding for everything that could not."""

    master_key: str
    master: Master
    #: Media and I-frame playlists by key.
    playlists: dict[str, Media]
    tracks: dict[str, Track]
    #: Bytes and seconds of each segment of a playlist, where all could be read.
    weights: dict[str, list[Weight]]
    #: WebVTT files by key, in the order of their playlists.
    texts: dict[str, Text]
    #: What storage said of each object that was read; its bytes are gone.
    heads: dict[str, Stored]
    unreadable: tuple[Finding, ...]
    #: What the rules could not look into.
    unseen: tuple[Finding, ...] = ()

    @property
    def multivariant(self) -> bool:
        """False for a media playlist alone."""
        return not self.master.alone

    def described(self) -> list[Variant]:
        """The variants of which the master says something: none where it is a media playlist."""
        return [] if self.master.alone else list(self.master.variants)

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
    if "://" in playlist or "://" in uri:
        try:
            return urljoin(playlist, uri)
        except ValueError:
            return uri
    return posixpath.normpath(posixpath.join(posixpath.dirname(playlist), uri))


def read_stream(read: Read, sizes: Mapping[str, int] | None, master: str, *, readers: int, most: int = MOST) -> Stream:
    """Follow the master (or a media playlist alone) to every object that it names, `most` at most.

    `sizes` lists what exists; without it, reading tells.
    """
    reader = _Reader(read, sizes, most)
    top = reader.master(master)
    texts = [item for item in top.renditions if item.get("TYPE") == "SUBTITLES"]
    others = [item for item in top.renditions if item.get("TYPE") != "SUBTITLES"]
    media = [variant.uri for variant in top.variants] + [item["URI"] for item in others if "URI" in item]
    named = dict.fromkeys(resolve(master, uri) for uri in media)
    subtitles = dict.fromkeys(resolve(master, item["URI"]) for item in texts if "URI" in item)
    iframes = [resolve(master, item["URI"]) for item in top.iframes if "URI" in item]
    keys = list({**named, **subtitles, **dict.fromkeys(iframes)})
    tracks: dict[str, Track] = {}
    with ThreadPoolExecutor(readers, thread_name_prefix="proof") as pool:
        playlists = {key: found for key, found in zip(keys, pool.map(reader.media, keys), strict=True) if found}
        for key in (key for key in named if key in playlists):
            track = reader.track(key, playlists[key], pool)
            tracks |= {key: track} if track else {}
        for key in (key for key in subtitles if key in playlists):
            reader.subtitles(key, playlists[key])
    return Stream(
        master_key=master,
        master=top,
        playlists=playlists,
        tracks={key: tracks[key] for key in named if key in tracks},
        weights=reader.weights,
        texts=reader.texts,
        heads=reader.heads,
        unreadable=tuple(dict.fromkeys(reader.unreadable)),
        unseen=tuple(dict.fromkeys(reader.unseen)),
    )


#: (the track that is looked into, the others beside it, SHA-256 of the file) by EXT-X-MAP.
ReadInit = tuple[Init, tuple[Init, ...], str]
Inits = Mapping[tuple[str, Range | None], ReadInit | None]


class _Reader:
    """Reads objects, and notes those that it cannot."""

    def __init__(self, read: Read, sizes: Mapping[str, int] | None, most: int) -> None:
        self._read = read
        self._sizes = sizes
        self._left = most
        self.unreadable: list[Finding] = []
        self.unseen: list[Finding] = []
        self.heads: dict[str, Stored] = {}
        self.texts: dict[str, Text] = {}
        self.weights: dict[str, list[Weight]] = {}

    def master(self, key: str) -> Master:
        """The multivariant playlist; one variant without attributes where the key is a media playlist."""

        def parse(data: bytes) -> Master:
            text = data.decode()
            alone = Variant(key if "://" in key else posixpath.basename(key), {})
            return Master(variants=(alone,), alone=True) if m3u8.is_media(text) else m3u8.parse_master(text)

        return self._object(key, None, parse) or Master()

    def media(self, key: str) -> Media | None:
        found = self._object(key, None, lambda data: m3u8.parse_media(data.decode()))
        if found and not found.entries:
            self.unreadable.append((key, "The playlist names no segment."))
        return found if found and found.entries else None

    def track(self, key: str, media: Media, pool: ThreadPoolExecutor) -> Track | None:
        """The track, or None when anything of it cannot be read or is not fragmented MP4."""
        maps = dict.fromkeys(entry.map for entry in media.entries if entry.map)
        inits = {place: self._object(resolve(key, place[0]), place[1], _inits) for place in maps}
        found = list(pool.map(partial(self._segment, key, inits), media.entries))
        read = [segment for segment in found if segment]
        if len(read) == len(found):
            self.weights[key] = [_weight(segment, inits) for segment in read]
        facts = [segment for segment in read if isinstance(segment, SegmentFacts)]
        mains = [init[0] for init in inits.values() if init]
        if len(facts) != len(found) or not mains:
            return None
        if len({(main.timescale, main.codec.split(".")[0]) for main in mains}) > 1:
            self.unseen.append((key, "Its init segments differ in kind, so its times were not compared."))
            return None
        (uri, _), first = next(iter(inits.items()))
        assert first is not None, "otherwise its segments would not be facts"
        return Track(key, media, resolve(key, uri), first[2], first[0], tuple(facts), first[1])

    def subtitles(self, key: str, media: Media) -> None:
        if any(entry.map for entry in media.entries):
            self.unseen.append((key, "Its subtitles are not WebVTT; only the playlist was looked into."))
            return
        for entry in media.entries:
            name = resolve(key, entry.uri)
            text = self._object(name, entry.range, cues.parse)
            if text:
                self.texts[name] = text

    def _segment(self, playlist: str, inits: Inits, entry: Entry) -> SegmentFacts | Weight | None:
        key = resolve(playlist, entry.uri)
        init = inits.get(entry.map) if entry.map else None
        if entry.map and init is None:
            return None
        if entry.closed:
            self.unseen.append(
                (playlist, "Its segments are encrypted or missing on purpose; only sizes were compared.")
            )
            return self._object(key, entry.range, lambda data: (len(data), entry.duration))
        if init is None:
            return self._object(key, entry.range, lambda data: self._other(playlist, data, entry))
        return self._object(key, entry.range, lambda data: _facts(key, entry, data, init))

    def _other(self, playlist: str, data: bytes, entry: Entry) -> Weight:
        """A segment without an init: told by its first bytes, and weighed."""
        if data[4:8] in FRAGMENT_BOXES:
            raise BadBoxes("it is fragmented MP4, and no EXT-X-MAP leads to its init")
        if data[:1] == bytes([TS_SYNC]) and not len(data) % TS_BYTES:
            self.unseen.append(
                (playlist, "Its segments are MPEG transport streams; only their sizes were looked into.")
            )
        elif data[:3] == b"ID3" or data[:1] == b"\xff":
            self.unseen.append((playlist, "Its segments are packed audio; only their sizes were looked into."))
        else:
            raise BadBoxes("it is neither fragmented MP4 nor a transport stream nor packed audio")
        return len(data), entry.duration

    def _object(self, key: str, span: Range | None, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        if self._sizes is not None and key not in self._sizes:
            self.unreadable.append((key, "A playlist names it, and it does not exist."))
            return None
        self._left -= 1
        if self._left < 0:
            self.unseen.append(("", "There are more objects than are read; the rest was not looked into."))
            return None
        try:
            stored = self._read(key, span)
            self.heads[key] = replace(stored, data=b"")
            return parse(stored.data)
        except TooMuch as error:
            self.unseen.append((key, f"It was not looked into: {error}."))
        except (Absent, BadBoxes, BadPlaylist, BadText, UnicodeDecodeError) as error:
            self.unreadable.append((key, f"It cannot be read: {error}."))
        return None


def _inits(data: bytes) -> ReadInit:
    """Pictures are looked into where there are any."""
    found = sorted(boxes.read_inits(data), key=lambda init: not init.width)
    return found[0], tuple(found[1:]), hashlib.sha256(data).hexdigest()


def _weight(segment: SegmentFacts | Weight, inits: Inits) -> Weight:
    if isinstance(segment, SegmentFacts):
        init = inits[segment.entry.map] if segment.entry.map else None
        assert init is not None, "its boxes were read with it"
        return segment.size_bytes, Fraction(segment.duration, init[0].timescale)
    return segment


def _facts(key: str, entry: Entry, data: bytes, inits: ReadInit) -> SegmentFacts:
    init, others, _ = inits
    moofs, times, keys, lasts = [], array("q"), [], []
    for fragment in boxes.read_fragments(data, init):
        samples = list(fragment.samples)
        if not samples or (not others and sum(sample.size for sample in samples) != fragment.end - fragment.body):
            raise BadBoxes(f"the samples of the moof at byte {fragment.start} do not fill its mdat")
        nals = [boxes.nal_types(data, sample, init.nal_length_bytes) for sample in samples if init.nal_length_bytes]
        durations = [sample.duration for sample in samples]
        if not all(durations):
            raise BadBoxes(f"a sample of the moof at byte {fragment.start} lasts no time")
        times.extend(sample.decode_time + sample.composition for sample in samples)
        keys += [s.decode_time + s.composition for s in samples if not s.flags & boxes.NO_SYNC_BIT]
        lasts += durations
        moofs.append(
            Moof(
                offset=fragment.start,
                reach_bytes=samples[0].offset + samples[0].size - fragment.start,
                sequence=fragment.sequence,
                decode_time=fragment.decode_time,
                duration=sum(durations),
                idr=boxes.is_idr(nals[0]) if nals else not samples[0].flags & boxes.NO_SYNC_BIT,
            )
        )
    if not moofs:
        raise BadBoxes("there is no moof in it")
    shown = array("q", sorted(times))
    # pictures that stay long may be decoded soon after one another: then durations say little
    shortest = min((later - time for time, later in pairwise(shown) if later > time), default=min(lasts))
    return SegmentFacts(key, entry, len(data), tuple(moofs), shown, shortest, tuple(keys))
