"""What holds for every whole stream, ours or anybody's: one small function a rule, named in the table at the end."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from appliance.streams.m3u8 import WHOLE, Media
from appliance.streams.rates import Rates, measure
from appliance.streams.stream import Finding, Stream, Track, resolve

#: EXT-X-MAP in a playlist that is not I-frames only needs 6; the fMP4 features that players test for need 7.
LEAST_VERSION = 7
#: How far a segment may exceed the target duration, in seconds.
LONGER = Fraction(1, 2)
#: How far EXTINF may lie from the samples' duration, in seconds: less than any player notices.
EXTINF_SLACK = Fraction(1, 1000)
#: How far a stated rate may lie from the measured one.
RATE_SLACK = Fraction(1, 10)


@dataclass(frozen=True)
class Rule:
    """`source` is where the rule is written down: an RFC, a standard, or a fault that this system promises to catch."""

    name: str
    source: str
    check: Callable[[Stream], Iterator[Finding]]


def readable(stream: Stream) -> Iterator[Finding]:
    """Every object that is named exists and is what it should be."""
    yield from stream.unreadable


def version(stream: Stream) -> Iterator[Finding]:
    stated = {stream.master_key: stream.master.version}
    stated |= {key: media.version for key, media in stream.playlists.items()}
    for key, number in stated.items():
        if number < LEAST_VERSION:
            yield key, f"EXT-X-VERSION is {number}, and at least {LEAST_VERSION} is needed."


def independent(stream: Stream) -> Iterator[Finding]:
    stated = {stream.master_key: stream.master.independent}
    stated |= {track.key: track.media.independent for track in stream.tracks.values()}
    for key, said in stated.items():
        if not said:
            yield key, "EXT-X-INDEPENDENT-SEGMENTS is missing."


def finished(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        if media.kind != "VOD":
            yield key, "EXT-X-PLAYLIST-TYPE is not VOD."
        if not media.ended:
            yield key, "EXT-X-ENDLIST is missing."


def has_map(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        if not media.map_uri:
            yield key, "EXT-X-MAP is missing."


def target_duration(stream: Stream) -> Iterator[Finding]:
    for key, media in stream.playlists.items():
        longest = max((entry.duration for entry in media.entries), default=Fraction(0))
        if math.floor(longest + Fraction(1, 2)) > media.target or not media.target:
            yield key, f"EXT-X-TARGETDURATION is {media.target}, and a segment lasts {float(longest):.3f} s."
    targets = {track.media.target for track in stream.tracks.values()}
    if len(targets) > 1:
        yield stream.master_key, f"The media playlists have different target durations: {sorted(targets)}."


def segment_length(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        for segment in track.segments:
            seconds = track.seconds(segment.duration)
            if seconds > track.media.target + LONGER:
                yield segment.key, f"It lasts {float(seconds):.3f} s; the target duration is {track.media.target} s."


def extinf(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        for segment in track.segments:
            seconds = track.seconds(segment.duration)
            if abs(segment.entry.duration - seconds) > EXTINF_SLACK:
                said, true = float(segment.entry.duration), float(seconds)
                yield track.key, f"EXTINF of {segment.entry.uri} says {said:.6f} s; its samples last {true:.6f} s."


def decode_time(stream: Stream) -> Iterator[Finding]:
    """Each tfdt is the sum of the durations before it."""
    for track in stream.tracks.values():
        due = track.segments[0].start
        for segment in track.segments:
            if segment.start != due:
                yield segment.key, f"Its decode time is {segment.start}; the samples before it end at {due}."
            if any(after.decode_time != moof.decode_time + moof.duration for moof, after in pairwise(segment.moofs)):
                yield segment.key, "The decode times of its fragments do not follow each other."
            due = segment.start + segment.duration


def sequence_numbers(stream: Stream) -> Iterator[Finding]:
    for track in stream.tracks.values():
        moofs = [(segment.key, moof.sequence) for segment in track.segments for moof in segment.moofs]
        for (_, before), (key, number) in pairwise(moofs):
            if number <= before:
                yield key, f"Fragment {number} follows fragment {before}."


def begins_with_idr(stream: Stream) -> Iterator[Finding]:
    for track in stream.pictures():
        for segment in track.segments:
            if not segment.moofs[0].idr:
                yield segment.key, "It does not begin with an IDR picture."


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


def bandwidth(stream: Stream) -> Iterator[Finding]:
    for variant, track in stream.variants():
        picture, loudest = _rates(track), _most_expensive(stream, variant.attributes.get("AUDIO"))
        both = Rates(picture.peak + loudest.peak, picture.average + loudest.average)
        yield from _within(stream.master_key, variant.uri, variant.attributes, both)
    for item, _, media in stream.iframes():
        frames = [(entry.range[0], entry.duration) for entry in media.entries if entry.range and entry.duration]
        if frames:
            yield from _within(stream.master_key, item["URI"], item, measure(frames, media.target))


def _rates(track: Track) -> Rates:
    return measure(track.weights, track.media.target)


def _most_expensive(stream: Stream, group: str | None) -> Rates:
    sounds = [_rates(track) for _, track in stream.renditions(group)] if group else []
    return max(sounds, key=lambda rates: rates.peak, default=Rates(Fraction(0), Fraction(0)))


def _within(key: str, uri: str, said: dict[str, str], measured: Rates) -> Iterator[Finding]:
    for name, rate in (("BANDWIDTH", measured.peak), ("AVERAGE-BANDWIDTH", measured.average)):
        text = said.get(name, "")
        if not WHOLE.fullmatch(text) or abs(int(text) - rate) > rate * RATE_SLACK:
            yield key, f"{name} of {uri} is {text or 'missing'}; measured are {round(rate)} bit/s."


def codecs(stream: Stream) -> Iterator[Finding]:
    """What CODECS promises is what avcC and esds hold."""
    for variant, track in stream.variants():
        group = variant.attributes.get("AUDIO")
        sounds = {sound.init.codec for _, sound in stream.renditions(group)} if group else set()
        yield from _codecs(stream.master_key, variant.uri, variant.attributes, {track.init.codec} | sounds)
    inits = {track.init_key: track.init for track in stream.tracks.values()}
    for item, key, media in stream.iframes():
        init = inits.get(resolve(key, media.map_uri))
        if init:
            yield from _codecs(stream.master_key, item["URI"], item, {init.codec})


def _codecs(key: str, uri: str, said: dict[str, str], held: set[str]) -> Iterator[Finding]:
    text = said.get("CODECS", "")
    if {codec.strip().lower() for codec in text.split(",")} != {codec.lower() for codec in held}:
        yield key, f"CODECS of {uri} is {text or 'missing'}; the bytes say {','.join(sorted(held))}."


def picture(stream: Stream) -> Iterator[Finding]:
    """RESOLUTION and FRAME-RATE are those of the samples."""
    for variant, track in stream.variants():
        if track.video:
            rate = Fraction(track.init.timescale, min(segment.shortest for segment in track.segments))
            true = {"RESOLUTION": f"{track.init.width}x{track.init.height}", "FRAME-RATE": f"{float(rate):.3f}"}
            for name, value in true.items():
                if variant.attributes.get(name) != value:
                    said = variant.attributes.get(name, "missing")
                    yield stream.master_key, f"{name} of {variant.uri} is {said}; the samples say {value}."


def renditions(stream: Stream) -> Iterator[Finding]:
    """Every group that a variant names exists, and players can choose and describe what is in it."""
    for variant in stream.master.variants:
        group = variant.attributes.get("AUDIO")
        members = [item for item in stream.master.renditions if item.get("GROUP-ID") == group]
        chosen = [item for item in members if item.get("DEFAULT") == item.get("AUTOSELECT") == "YES"]
        if group and not chosen:
            yield stream.master_key, f"{variant.uri} names the audio group {group}, which has no default."
    for item in stream.master.renditions:
        missing = [name for name in ("TYPE", "GROUP-ID", "NAME", "LANGUAGE") if not item.get(name)]
        if missing:
            yield stream.master_key, f"A rendition has no {', '.join(missing)}."
    for item, track in stream.renditions():
        if item.get("CHANNELS", "").split("/")[0] != str(track.init.channels):
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
    for track in stream.pictures():
        if track.key not in served:
            yield track.key, "No EXT-X-I-FRAME-STREAM-INF leads to its I-frames."


def _iframe_entries(key: str, media: Media, track: Track) -> Iterator[Finding]:
    if not media.iframes_only:
        yield key, "EXT-X-I-FRAMES-ONLY is missing."
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


RULES = (
    Rule("readable", "F48", readable),
    Rule("version", "RFC 8216 §7", version),
    Rule("independent-segments", "RFC 8216 §4.3.5.1", independent),
    Rule("finished", "RFC 8216 §4.3.3.4, §4.3.3.5", finished),
    Rule("map", "RFC 8216 §4.3.2.5", has_map),
    Rule("target-duration", "RFC 8216 §4.3.3.1, §6.2.4", target_duration),
    Rule("segment-length", "RFC 8216 §4.3.3.1", segment_length),
    Rule("extinf", "RFC 8216 §4.3.2.1", extinf),
    Rule("decode-time", "ISO/IEC 14496-12 §8.8.12", decode_time),
    Rule("sequence-numbers", "ISO/IEC 14496-12 §8.8.5", sequence_numbers),
    Rule("idr", "RFC 8216 §4.3.5.1", begins_with_idr),
    Rule("same-timestamps", "RFC 8216 §6.2.4", same_timestamps),
    Rule("sound-follows", "RFC 8216 §6.2.4", sound_follows),
    Rule("bandwidth", "RFC 8216 §4.3.4.2", bandwidth),
    Rule("codecs", "RFC 6381 §3.3", codecs),
    Rule("picture", "RFC 8216 §4.3.4.2", picture),
    Rule("renditions", "RFC 8216 §4.3.4.1", renditions),
    Rule("iframes", "RFC 8216 §4.3.3.6, §4.3.4.3", iframe_streams),
)
