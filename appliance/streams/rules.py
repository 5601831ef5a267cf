"""What holds for every whole stream, ours or anybody's: one small function a rule, named in the table at the end.

`Apple` is the HLS Authoring Specification for Apple Devices, by the numbers of its general requirements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

from appliance.streams.m3u8 import Media
from appliance.streams.stream import Finding, Stream, Track, resolve

#: How far a segment may exceed the target duration, in seconds (Apple 7.7).
LONGER = Fraction(1, 2)
#: How far lengths of pictures and sound may lie apart and still be "the same": a frame of either, in seconds.
SAME_LENGTH = Fraction(1, 10)
#: Apple's target duration and distance of key frames, in seconds.
TARGET, KEY_SECONDS = 6, 2
#: H.264 High, level 5.2, as CODECS has them.
HIGHEST_PROFILE, HIGHEST_LEVEL = 100, 52
GZIP = "gzip"
PLAYLIST_TYPES = {"application/vnd.apple.mpegurl", "audio/mpegurl", "application/x-mpegurl"}


@dataclass(frozen=True)
class Rule:
    """`source` is where the rule is written down; `must` is False for what is only recommended there."""

    name: str
    source: str
    check: Callable[[Stream], Iterator[Finding]]
    must: bool = True


def readable(stream: Stream) -> Iterator[Finding]:
    """Every object that is named exists and is what it should be."""
    yield from stream.unreadable


def version(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        least, why = _least_version(media)
        if media.version < least:
            yield key, f"EXT-X-VERSION is {media.version}, and {why} needs at least {least}."


def _least_version(media: Media) -> tuple[int, str]:
    if media.map_uri:
        return (5, "EXT-X-MAP with I-frames") if media.iframes_only else (6, "EXT-X-MAP")
    if media.iframes_only or any(entry.range for entry in media.entries):
        return 4, "EXT-X-BYTERANGE"
    return (3, "EXTINF with a fraction") if any(entry.duration % 1 for entry in media.entries) else (1, "")


def finished(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        if not media.ended:
            yield key, "EXT-X-ENDLIST is missing: the stream is not finished."


def vod(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        if media.kind != "VOD":
            yield key, "EXT-X-PLAYLIST-TYPE is not VOD."


def target_duration(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        longest = max(entry.duration for entry in media.entries)
        if math.floor(longest + Fraction(1, 2)) > media.target or not media.target:
            yield key, f"EXT-X-TARGETDURATION is {media.target}, and a segment lasts {float(longest):.3f} s."


def same_target(stream: Stream) -> Iterator[Finding]:
    texts = set(named(stream, "SUBTITLES"))
    targets = {m.target for key, m in stream.playlists.items() if not m.iframes_only and key not in texts}
    if len(targets) > 1:
        yield stream.master_key, f"The media playlists have different target durations: {sorted(targets)}."


def named(stream: Stream, *kinds: str) -> list[str]:
    """Keys of the renditions of these types."""
    found = [item for item in stream.master.renditions if item.get("TYPE") in kinds and item.get("URI")]
    return [resolve(stream.master_key, item["URI"]) for item in found]


def segment_length(stream: Stream) -> Iterator[Finding]:
    for key, weights in stream.weights.items():
        media = stream.playlists[key]
        for entry, (_, seconds) in zip(media.entries, weights, strict=True):
            if seconds > media.target + LONGER:
                said = f"It lasts {float(seconds):.3f} s; the target duration is {media.target} s."
                yield resolve(key, entry.uri), said


def extinf(stream: Stream) -> Iterator[Finding]:
    """No run of segments is off by more than a frame: the sums up to each segment are off by nearly the same."""
    for track in stream.tracks.values():
        frame = track.seconds(max(segment.shortest for segment in track.segments))
        off = [segment.entry.duration - track.seconds(segment.duration) for segment in track.segments]
        sums = list(accumulate(off, initial=Fraction(0)))
        if max(sums) - min(sums) > frame:
            apart = float(max(sums) - min(sums))
            yield track.key, f"EXTINFs of a run of segments lie {apart:.3f} s from what its samples last."


def decode_time(stream: Stream) -> Iterator[Finding]:
    """Each tfdt is the sum of the durations before it."""
    for track in stream.tracks.values():
        for run in track.runs():
            due = run[0].start
            for segment in run:
                if segment.start != due:
                    yield segment.key, f"Its decode time is {segment.start}; the samples before it end at {due}."
                if any(
                    later.decode_time != moof.decode_time + moof.duration for moof, later in pairwise(segment.moofs)
                ):
                    yield segment.key, "The decode times of its fragments do not follow each other."
                due = segment.start + segment.duration


def sequence_numbers(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        for run in track.runs():
            moofs = [(segment.key, moof.sequence) for segment in run for moof in segment.moofs]
            for (_, before), (key, number) in pairwise(moofs):
                if number <= before:
                    yield key, f"Fragment {number} follows fragment {before}."


def begins_with_idr(stream: Stream) -> Iterator[Finding]:
    for track in stream.pictures():
        for segment in track.segments:
            if not segment.moofs[0].idr:
                yield segment.key, "It does not begin with an IDR picture."


def key_frames(stream: Stream) -> Iterator[Finding]:
    for track in stream.pictures():
        keys = sorted(time for segment in track.segments for time in segment.keys)
        apart = max((track.seconds(later - key) for key, later in pairwise(keys)), default=Fraction(0))
        if apart > KEY_SECONDS * Fraction(101, 100):  # 2.002 s is what NTSC makes of it
            yield track.key, f"Key frames lie up to {float(apart):.2f} s apart."


def independent(stream: Stream) -> Iterator[Finding]:
    if not stream.master.independent:
        for track in stream.pictures():
            if not track.media.independent and all(segment.moofs[0].idr for segment in track.segments):
                yield track.key, "EXT-X-INDEPENDENT-SEGMENTS is missing here and in the multivariant playlist."


def independent_master(stream: Stream) -> Iterator[Finding]:
    if stream.multivariant and stream.pictures() and not stream.master.independent:
        yield stream.master_key, "EXT-X-INDEPENDENT-SEGMENTS is missing."


def same_start(stream: Stream) -> Iterator[Finding]:
    for first, track in _beside_the_first(stream.pictures()):
        apart = abs(track.seconds(track.segments[0].times[0]) - first.seconds(first.segments[0].times[0]))
        if apart > first.seconds(first.segments[0].shortest) / 2:
            yield track.key, f"It begins {float(apart):.3f} s from where {first.key} does."


def same_length(stream: Stream) -> Iterator[Finding]:
    lengths = {key: sum(entry.duration for entry in stream.playlists[key].entries) for key in stream.weights}
    longest = max(lengths.values(), default=Fraction(0))
    for key, seconds in lengths.items():
        if longest - seconds > SAME_LENGTH:
            yield key, f"It lasts {float(seconds):.3f} s, another playlist {float(longest):.3f} s."


def text_length(stream: Stream) -> Iterator[Finding]:
    longest = max((sum(e.duration for e in stream.playlists[key].entries) for key in stream.weights), default=0)
    for key in named(stream, "SUBTITLES"):
        media = stream.playlists.get(key)
        if media and longest - sum(entry.duration for entry in media.entries) > media.target:
            yield key, "The subtitles' playlist ends before the content does."


def timestamp_map(stream: Stream) -> Iterator[Finding]:
    for key, text in stream.texts.items():
        if not text.mapped:
            yield key, "X-TIMESTAMP-MAP is missing."


def same_discontinuities(stream: Stream) -> Iterator[Finding]:
    counts = {key: sum(e.discontinuity for e in stream.playlists[key].entries) for key in stream.weights}
    if len(set(counts.values())) > 1:
        yield stream.master_key, f"The playlists have different numbers of discontinuities: {sorted(counts.values())}."


def same_boundaries(stream: Stream) -> Iterator[Finding]:
    tracks = list(stream.tracks.values())
    for first, track in _beside_the_first(tracks):
        frame = max(track.seconds(track.segments[0].shortest), first.seconds(first.segments[0].shortest))
        pairs = zip(track.segments, first.segments, strict=False)
        apart = max(abs(track.seconds(ours.start) - first.seconds(theirs.start)) for ours, theirs in pairs)
        if len(track.segments) != len(first.segments) or apart > frame:
            yield track.key, f"Its segments do not begin where those of {first.key} do."


def _beside_the_first(tracks: list[Track]) -> Iterator[tuple[Track, Track]]:
    for track in tracks[1:]:
        yield tracks[0], track


def profile(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        if track.init.nal_length_bytes:
            parameters = bytes.fromhex(track.init.codec.partition(".")[2])
            if parameters[0] > HIGHEST_PROFILE or parameters[2] > HIGHEST_LEVEL:
                yield track.init_key, f"{track.init.codec} is above High profile, level 5.2."


def apart(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        if track.beside:
            yield track.key, "Pictures and sound lie in the same segments."


def six_seconds(stream: Stream) -> Iterator[Finding]:
    for key, weights in stream.weights.items():
        if len(weights) > 1 and stream.playlists[key].target != TARGET:
            yield key, f"EXT-X-TARGETDURATION is {stream.playlists[key].target}, not {TARGET}."


def gzipped(stream: Stream) -> Iterator[Finding]:
    for key in (stream.master_key, *stream.playlists):
        head = stream.heads.get(key)
        if head and head.content_encoding is not None and head.content_encoding != GZIP:
            yield key, "The playlist is not delivered with gzip."


def redirects(stream: Stream) -> Iterator[Finding]:
    for key, head in stream.heads.items():
        if head.redirected:
            yield key, "The request was redirected."


def mime_types(stream: Stream) -> Iterator[Finding]:
    for key in (stream.master_key, *stream.playlists):
        head = stream.heads.get(key)
        said = head.content_type if head else None
        if said is not None and said.partition(";")[0].strip().lower() not in PLAYLIST_TYPES:
            yield key, f"Its type is {said or 'missing'}, not application/vnd.apple.mpegurl."


RULES = (
    Rule("readable", "RFC 8216 §3, §4", readable),
    Rule("version", "RFC 8216 §7", version),
    Rule("finished", "RFC 8216 §4.3.3.4", finished),
    Rule("vod", "Apple 8.6", vod),
    Rule("target-duration", "RFC 8216 §4.3.3.1", target_duration),
    Rule("same-target", "RFC 8216 §6.2.4, Apple 8.2", same_target),
    Rule("segment-length", "Apple 7.7", segment_length),
    Rule("extinf", "Apple 8.1, RFC 8216 §4.3.2.1", extinf),
    Rule("decode-time", "Apple 7.3, ISO/IEC 14496-12 §8.8.12", decode_time),
    Rule("sequence-numbers", "ISO/IEC 14496-12 §8.8.5", sequence_numbers),
    Rule("idr", "Apple 7.4", begins_with_idr),
    Rule("key-frames", "Apple 1.13", key_frames, must=False),
    Rule("independent-segments", "Apple 9.12, RFC 8216 §4.3.5.1", independent),
    Rule("independent-master", "Apple 9.11", independent_master, must=False),
    Rule("same-start", "RFC 8216 §6.2.4", same_start),
    Rule("same-length", "Apple 8.3, 8.7", same_length),
    Rule("text-length", "Apple 5.5", text_length),
    Rule("timestamp-map", "Apple 5.3, RFC 8216 §3.5", timestamp_map),
    Rule("same-discontinuities", "Apple 8.15, RFC 8216 §6.2.4", same_discontinuities),
    Rule("same-boundaries", "Apple 8.22", same_boundaries, must=False),
    Rule("profile", "Apple 1.3b", profile),
    Rule("separate-sound", "Apple 9.5", apart, must=False),
    Rule("six-seconds", "Apple 7.5", six_seconds, must=False),
    Rule("gzip", "Apple 10.1", gzipped),
    Rule("redirects", "Apple 8.18", redirects),
    Rule("mime-types", "Apple 10.4", mime_types, must=False),
)
