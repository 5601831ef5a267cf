"""What the plan and the chunk rows promise of a stream of ours: one small function each, named in the table below."""

from __future__ import annotations

import posixpath
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from appliance.domain.plan import AAC_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TRACK, Mode, Plan
from appliance.domain.stored import Stored
from appliance.streams import dash, languages, storyboard
from appliance.streams.presentation import POSTER, Presentation, poster_key
from appliance.streams.segments import ChunkObjects, Gop, Segment, TrackObjects
from appliance.streams.stream import Finding, SegmentFacts, Stream, Track, resolve

#: What lies beside the playlists and is named by none of them.
UNNAMED = (dash.MANIFEST, storyboard.NAME, POSTER)


@dataclass(frozen=True)
class Expected:
    """The plan that was encoded, and what every one of its chunks recorded."""

    plan: Plan
    chunks: tuple[ChunkObjects, ...]

    def recorded(self, name: str) -> list[tuple[str, TrackObjects]]:
        """(prefix, objects) of one track in the order of the presentation."""
        ordered = sorted(self.chunks, key=lambda chunk: chunk.number)
        return [(chunk.prefix, track) for chunk in ordered for track in chunk.tracks if track.track == name]

    def segments(self, name: str) -> list[tuple[str, Segment]]:
        """(key, segment) of one track in the order of the presentation."""
        return [(f"{prefix}/{s.name}", s) for prefix, track in self.recorded(name) for s in track.segments]

    def chunk_of(self, key: str) -> int | None:
        """The chunk that an object belongs to; None for a playlist."""
        directory = posixpath.dirname(key)
        return next((chunk.number for chunk in self.chunks if chunk.prefix == directory), None)


@dataclass(frozen=True)
class Promised:
    """A stream, the listing of what exists, and what was promised."""

    stream: Stream
    sizes: Mapping[str, int]
    expected: Expected
    #: What lies beside the playlists and what they do not name, read back.
    files: Mapping[str, Stored]

    @property
    def plan(self) -> Plan:
        return self.expected.plan

    def key(self, name: str) -> str:
        """The key of a playlist of ours."""
        return resolve(self.stream.master_key, f"{name}.m3u8")

    @cached_property
    def presentation(self) -> Presentation:
        """What should have been published, as seen from the master."""
        return Presentation.of(self.plan, self.expected.chunks, posixpath.dirname(self.stream.master_key))

    def beside(self, name: str) -> str:
        """The key of what lies beside the master under this name."""
        return resolve(self.stream.master_key, name)

    def tracks(self) -> Iterator[tuple[str, Track]]:
        """Each track of the plan that could be read."""
        for name in self.presentation.tracks:
            track = self.stream.tracks.get(self.key(name))
            if track:
                yield name, track


@dataclass(frozen=True)
class Promise:
    """`source` is where the promise is written down."""

    name: str
    source: str
    check: Callable[[Promised], Iterator[Finding]]


def recorded_sizes(promised: Promised) -> Iterator[Finding]:
    """Every object of every chunk lies there with the size that was recorded when it was uploaded."""
    for chunk in promised.expected.chunks:
        for key, size in chunk.sizes().items():
            found = promised.sizes.get(key)
            if found is None:
                yield key, "It was recorded, and it does not exist."
            elif found != size:
                yield key, f"It has {found} bytes, and {size} were recorded."


def beside_exists(promised: Promised) -> Iterator[Finding]:
    """MPD, storyboard and poster lie beside the master."""
    wanted = [dash.MANIFEST]
    wanted += [storyboard.NAME] if promised.presentation.pictures else []
    wanted += [POSTER] if poster_key(promised.expected.chunks) else []
    for name in wanted:
        if promised.beside(name) not in promised.sizes:
            yield promised.beside(name), "It does not lie beside the master."


def nothing_else(promised: Promised) -> Iterator[Finding]:
    """Nothing else lies in the directories of the chunks and of the master."""
    known = {key for chunk in promised.expected.chunks for key in chunk.sizes()}
    known |= {promised.stream.master_key, *promised.stream.playlists, *map(promised.beside, UNNAMED)}
    homes = {posixpath.dirname(key) for key in known}
    for key in promised.sizes:
        if key not in known and posixpath.dirname(key) in homes:
            yield key, "No playlist and no chunk names it."


def all_tracks(promised: Promised) -> Iterator[Finding]:
    """The master leads to every track of the plan and to no other."""
    stream, rungs = promised.stream, list(promised.presentation.rungs)
    sound = [AUDIO_TRACK] if promised.plan.audio else []
    wanted = {
        "variants": rungs or sound,
        "renditions": [text.track.name for text in promised.presentation.subtitles] + (sound if rungs else []),
        "I-frame playlists": [f"{name}_iframes" for name in rungs],
    }
    named = {
        "variants": [variant.uri for variant in stream.master.variants],
        "renditions": [item.get("URI", "") for item in stream.master.renditions],
        "I-frame playlists": [item.get("URI", "") for item in stream.master.iframes],
    }
    for kind, names in wanted.items():
        if [resolve(stream.master_key, uri) for uri in named[kind]] != [promised.key(name) for name in names]:
            yield stream.master_key, f"Its {kind} are {named[kind]}; the plan has {names}."
    if rungs and sound and not all(variant.attributes.get("AUDIO") for variant in stream.master.variants):
        yield stream.master_key, "A variant has no AUDIO, so that it would play without sound."
    if promised.presentation.subtitles and not all(v.attributes.get("SUBTITLES") for v in stream.master.variants):
        yield stream.master_key, "A variant has no SUBTITLES."


def named_objects(promised: Promised) -> Iterator[Finding]:
    """Each playlist names exactly the segments that the chunks recorded, in order."""
    for name in promised.presentation.tracks:
        key = promised.key(name)
        media = promised.stream.playlists.get(key)
        wanted = [segment_key for segment_key, _ in promised.expected.segments(name)]
        if media and [None if entry.range else resolve(key, entry.uri) for entry in media.entries] != wanted:
            yield key, f"It does not name the {len(wanted)} recorded segments in their order."


def one_init(promised: Promised) -> Iterator[Finding]:
    """One init serves the whole track: every chunk wrote the same bytes, and the one that is named holds them."""
    for name, track in promised.tracks():
        recorded = {f"{prefix}/{o.init_name}": o.init_sha256 for prefix, o in promised.expected.recorded(name)}
        first = next(iter(recorded.values()), "")
        for key, digest in recorded.items():
            if digest != first:
                yield key, "It differs from the first chunk's init, which all segments of the track would use."
        maps = {track.media.map_uri, *(entry.map[0] for entry in track.media.entries if entry.map)}
        if {resolve(track.key, uri) for uri in maps} != {track.init_key}:
            yield track.key, "It has a second EXT-X-MAP; one init must do for the whole track."
        if track.init_key not in recorded:
            yield track.key, f"Its EXT-X-MAP names {track.init_key}, which no chunk recorded for this track."
        elif track.init_sha256 != recorded[track.init_key]:
            yield track.init_key, "It is not the init that was recorded."


def as_recorded(promised: Promised) -> Iterator[Finding]:
    """Samples, durations and fragments of each segment are those of the chunk's row."""
    for name, track in promised.tracks():
        recorded = dict(promised.expected.segments(name))
        for segment in track.segments:
            row = recorded.get(segment.key)
            if row and (row.samples, row.duration, row.gops) != _measured(segment):
                yield segment.key, f"Its {len(segment.times)} samples are not quite the {row.samples} recorded."


def _measured(segment: SegmentFacts) -> tuple[int, int, tuple[Gop, ...]]:
    gops = tuple(Gop(moof.offset, moof.reach_bytes, moof.duration) for moof in segment.moofs)
    return len(segment.times), segment.duration, gops


def on_the_grid(promised: Promised) -> Iterator[Finding]:
    """Each segment shows exactly the frames that the plan gives it, each at its time; so together they show all.

    Where repeats were dropped, the rest of them: every other rule holds their number, rung against rung and row.
    """
    for name, track in promised.tracks():
        ticks, timescale, boundaries = _timeline(promised.plan, name)
        sparse = _sparse(promised.plan, name)
        if track.init.timescale != timescale:
            yield track.init_key, f"It counts {track.init.timescale} ticks a second, the plan {timescale}."
        if len(track.segments) != promised.plan.grid.segments:
            yield track.key, f"It has {len(track.segments)} segments, the plan {promised.plan.grid.segments}."
        for number, segment in enumerate(track.segments[: promised.plan.grid.segments]):
            first, last = boundaries[number] * ticks, boundaries[number + 1] * ticks
            grid = range(first, last, ticks)
            if segment.times != array("q", grid) and not (number in sparse and _some_of(segment, grid)):
                yield segment.key, f"Its {len(segment.times)} timestamps are not the grid's from {first} to {last}."
            if (segment.start, segment.duration) != (first, last - first):
                yield segment.key, f"It lasts {segment.duration} ticks from {segment.start} on, not {last - first}."


def _sparse(plan: Plan, name: str) -> set[int]:
    """Segments in which frames may last longer, because those that repeat were dropped; how many is in the rows."""
    chunks = [chunk for chunk in plan.chunks if chunk.mode is Mode.REPEATS and name != AUDIO_TRACK]
    return {chunk.first_segment + number for chunk in chunks for number in range(chunk.segments)}


def _some_of(segment: SegmentFacts, grid: range) -> bool:
    """The first frame of the grid and some of the others, each once."""
    times = segment.times
    return times[0] == grid[0] and all(time in grid for time in times) and len(set(times)) == len(times)


def _timeline(plan: Plan, name: str) -> tuple[int, int, list[int]]:
    """Ticks of a sample, ticks of a second, and the samples before each segment."""
    segments = range(plan.grid.segments + 1)
    if name == AUDIO_TRACK:
        return AAC_FRAME_SAMPLES, AUDIO_RATE, [plan.audio_boundary(segment) for segment in segments]
    return plan.grid.frame_ticks, plan.grid.timescale, [plan.grid.boundary(segment) for segment in segments]


def true_length(promised: Promised) -> Iterator[Finding]:
    """EXTINFs add up to the recording's length within one frame of it (or, for sound, of AAC)."""
    frame = max(1 / promised.plan.grid.rate, Fraction(AAC_FRAME_SAMPLES, AUDIO_RATE))
    true = promised.plan.grid.duration_seconds
    for key, media in promised.stream.playlists.items():
        total = sum((entry.duration for entry in media.entries), Fraction(0))
        if abs(total - true) > frame:
            yield key, f"Its segments last {float(total):.3f} s, the recording {float(true):.3f} s."


def as_planned(promised: Promised) -> Iterator[Finding]:
    """Sizes of the rungs, channels and language are the plan's; the rules hold the master against the bytes."""
    plan = promised.plan
    for name, track in promised.tracks():
        rung = next((rung for rung in plan.video.rungs if rung.name == name), None) if plan.video else None
        if rung and (track.init.width, track.init.height) != (rung.width, rung.height):
            yield track.init_key, f"Its pictures are not the plan's {rung.width}x{rung.height}."
        if not rung and plan.audio and track.init.channels != plan.audio.channels:
            yield track.init_key, f"It has {track.init.channels} channels, the plan {plan.audio.channels}."
    for variant in promised.stream.master.variants:
        said = {"CLOSED-CAPTIONS": "NONE", "FRAME-RATE": f"{float(plan.grid.rate):.3f}"}
        for name, value in said.items() if promised.presentation.rungs else ():
            if variant.attributes.get(name) != value:
                yield promised.stream.master_key, f"{name} of {variant.uri} is not {value}."
    texts = {f"{text.track.name}.m3u8": text.language for text in promised.presentation.subtitles}
    for item in promised.stream.master.renditions:
        wanted = texts.get(item.get("URI", "")) or languages.tag(plan.audio.language if plan.audio else "")
        if item.get("LANGUAGE") != wanted:
            yield promised.stream.master_key, f"LANGUAGE of {item.get('URI')} is {item.get('LANGUAGE')}, not {wanted}."


PROMISES = (
    Promise("recorded-sizes", "F48", recorded_sizes),
    Promise("beside-exists", "F48", beside_exists),
    Promise("nothing-else", "F13", nothing_else),
    Promise("all-tracks", "F48", all_tracks),
    Promise("named-objects", "F48", named_objects),
    Promise("one-init", "RFC 8216 §4.3.2.5", one_init),
    Promise("as-recorded", "F48", as_recorded),
    Promise("on-the-grid", "F48", on_the_grid),
    Promise("true-length", "F48", true_length),
    Promise("as-planned", "RFC 8216 §4.3.4", as_planned),
)
