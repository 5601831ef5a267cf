"""What a stream of ours keeps beyond what the rules ask of everybody: players forgive less than specifications."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from fractions import Fraction

from appliance.streams.hls import VERSION
from appliance.streams.m3u8 import Media
from appliance.streams.stream import Finding, Stream, Track, resolve

#: How far EXTINF may lie from the samples' duration, in seconds: less than any player notices.
EXTINF_SLACK = Fraction(1, 1000)


def looked_into(stream: Stream) -> Iterator[Finding]:
    """Nothing is left out."""
    yield from stream.unseen


def our_version(stream: Stream) -> Iterator[Finding]:
    stated = {stream.master_key: stream.master.version}
    stated |= {key: media.version for key, media in stream.playlists.items()}
    for key, number in stated.items():
        if number != VERSION:
            yield key, f"EXT-X-VERSION is {number}, not {VERSION}."


def independent(stream: Stream) -> Iterator[Finding]:
    stated = {stream.master_key: stream.master.independent}
    stated |= {track.key: track.media.independent for track in stream.tracks.values()}
    for key, said in stated.items():
        if not said:
            yield key, "EXT-X-INDEPENDENT-SEGMENTS is missing."


def extinf(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        for segment in track.segments:
            seconds = track.seconds(segment.duration)
            if abs(segment.entry.duration - seconds) > EXTINF_SLACK:
                said, true = float(segment.entry.duration), float(seconds)
                yield track.key, f"EXTINF of {segment.entry.uri} says {said:.6f} s; its samples last {true:.6f} s."


def same_timestamps(stream: Stream) -> Iterator[Finding]:
    """All rungs show the same pictures in the same segments, or players stutter when they change between them."""
    rungs = stream.pictures()
    for track in rungs[1:]:
        first = rungs[0]
        if len(track.segments) != len(first.segments):
            yield track.key, f"It has {len(track.segments)} segments, {first.key} has {len(first.segments)}."
        for segment, model in zip(track.segments, first.segments, strict=False):
            scale, model_scale = first.init.timescale, track.init.timescale
            if [time * scale for time in segment.times] != [time * model_scale for time in model.times]:
                yield segment.key, f"Its timestamps are not those of {posixpath.basename(model.key)}."
            elif segment.start * scale != model.start * model_scale:
                yield segment.key, f"It does not begin where {posixpath.basename(model.key)} does."


def sound_follows(stream: Stream) -> Iterator[Finding]:
    """Sound ends within one of its frames of the pictures, and each of its boundaries is the nearest to theirs."""
    track = next(iter(stream.pictures()), None)
    for _, sound in stream.renditions() if track else []:
        assert track is not None, "without a picture there is nothing to follow"
        frame = sound.seconds(max(segment.shortest for segment in sound.segments))
        if abs(sound.duration - track.duration) > frame:
            lengths = f"{float(sound.duration):.3f} s, the picture {float(track.duration):.3f} s"
            yield sound.key, f"The sound lasts {lengths}."
        if len(sound.segments) != len(track.segments):
            yield sound.key, f"The sound has {len(sound.segments)} segments, the picture {len(track.segments)}."
        for ours, theirs in zip(sound.segments, track.segments, strict=False):
            apart = abs(sound.seconds(ours.start) - track.seconds(theirs.start))
            if apart > frame / 2:
                yield ours.key, f"It begins {float(apart):.3f} s from the picture's boundary; another frame is nearer."


def chosen(stream: Stream) -> Iterator[Finding]:
    """Players find a sound without being told, and know what it is."""
    for variant in stream.master.variants:
        group = variant.attributes.get("AUDIO")
        members = [item for item in stream.master.renditions if item.get("GROUP-ID") == group]
        if group and not [item for item in members if item.get("DEFAULT") == item.get("AUTOSELECT") == "YES"]:
            yield stream.master_key, f"{variant.uri} names the audio group {group}, which has no default."
    for item, track in stream.renditions():
        if item.get("CHANNELS") != str(track.init.channels):
            said = item.get("CHANNELS", "missing")
            yield stream.master_key, f"CHANNELS of {item['URI']} is {said}; the samples have {track.init.channels}."


def iframe_streams(stream: Stream) -> Iterator[Finding]:
    """Every picture track has an I-frame playlist of all its random access points, byte for byte."""
    served = set()
    segments = {segment.key: (track, segment) for track in stream.pictures() for segment in track.segments}
    for item, key, media in stream.iframes():
        found = [segments.get(resolve(key, entry.uri)) for entry in media.entries]
        tracks = {place[0].key: place[0] for place in found if place}
        if len(tracks) == 1 and None not in found:
            (track,) = tracks.values()
            served.add(track.key)
            yield from _iframe_entries(key, media, track)
            if item.get("RESOLUTION") != f"{track.init.width}x{track.init.height}":
                yield stream.master_key, f"RESOLUTION of {item['URI']} is not that of its pictures."
        else:
            yield key, "It does not name the segments of exactly one picture track."
        if "AVERAGE-BANDWIDTH" not in item:
            yield stream.master_key, f"AVERAGE-BANDWIDTH of {item['URI']} is missing."
    for track in stream.pictures():
        if track.key not in served:
            yield track.key, "No EXT-X-I-FRAME-STREAM-INF leads to its I-frames."


def _iframe_entries(key: str, media: Media, track: Track) -> Iterator[Finding]:
    if resolve(key, media.map_uri) != track.init_key:
        yield key, "Its EXT-X-MAP is not that of the track."
    points = [(segment.key, moof) for segment in track.segments for moof in segment.moofs if moof.idr]
    if len(points) != len(media.entries):
        yield key, f"It names {len(media.entries)} I-frames; the track has {len(points)}."
    for (owner, moof), entry in zip(points, media.entries, strict=False):
        if resolve(key, entry.uri) != owner or entry.range != (moof.reach_bytes, moof.offset):
            yield key, f"{entry.range} of {entry.uri} is not the moof at byte {moof.offset} of {owner} and its I-frame."
        if abs(entry.duration - track.seconds(moof.duration)) > EXTINF_SLACK:
            yield key, f"EXTINF of the I-frame at byte {moof.offset} of {entry.uri} is not the time to the next one."


STRICT = (
    ("looked-into", "F48", looked_into),
    ("version", "RFC 8216 §7", our_version),
    ("independent-segments", "RFC 8216 §4.3.5.1", independent),
    ("extinf", "RFC 8216 §4.3.2.1", extinf),
    ("same-timestamps", "RFC 8216 §6.2.4", same_timestamps),
    ("sound-follows", "RFC 8216 §6.2.4", sound_follows),
    ("renditions", "RFC 8216 §4.3.4.1", chosen),
    ("iframes", "RFC 8216 §4.3.3.6, §4.3.4.3", iframe_streams),
)
