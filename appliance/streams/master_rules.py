"""What a multivariant playlist says of its streams, held against what was measured; the table is at the end.

The sources are named as in rules.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from appliance.streams.boxes import Init
from appliance.streams.m3u8 import SECONDS, WHOLE, Variant
from appliance.streams.rates import NOTHING, Rates, measure
from appliance.streams.rules import Rule
from appliance.streams.stream import Finding, Stream, resolve

#: How far a stated rate may lie from the measured one (Apple 1.26, 1.27).
RATE_SLACK = Fraction(1, 10)
#: How far FRAME-RATE may lie from the samples': a timescale that is no multiple of the rate makes frames uneven.
FRAME_RATE_SLACK = Fraction(2, 100)
#: Attributes of a variant that name a group of renditions of that type.
GROUPS = ("AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS")
#: CODECS of subtitles, which may be named or not (Apple 5.10).
TEXT_CODECS = ("wvtt", "stpp")


def has_variants(stream: Stream) -> Iterator[Finding]:
    if not stream.master.variants:
        yield stream.master_key, "It names no variant."


def sounds(stream: Stream, variant: Variant) -> list[str]:
    """Keys of the sound that is played with a variant."""
    group = variant.attributes.get("AUDIO")
    found = [item for item in stream.master.renditions if item.get("TYPE") == "AUDIO" and item.get("GROUP-ID") == group]
    return [resolve(stream.master_key, item["URI"]) for item in found if item.get("URI")] if group else []


def rates_of(stream: Stream, variant: Variant) -> Rates | None:
    """With the most expensive sound; None where something could not be read."""
    keys = [resolve(stream.master_key, variant.uri), *sounds(stream, variant)]
    if not all(key in stream.weights for key in keys):
        return None
    first, *others = [measure(stream.weights[key], stream.playlists[key].target) for key in keys]
    loudest = max(others, key=lambda rates: rates.peak, default=NOTHING)
    return first + loudest


def _rated(stream: Stream) -> Iterator[tuple[str, dict[str, str], Rates]]:
    """Each line of the master that states rates, with the measured ones."""
    for variant in stream.described():
        rates = rates_of(stream, variant)
        if rates:
            yield variant.uri, variant.attributes, rates
    for item, _, media in stream.iframes():
        frames = [(entry.range[0], entry.duration) for entry in media.entries if entry.range]
        if len(frames) == len(media.entries):
            yield item["URI"], item, measure(frames, media.target)


def bandwidth(stream: Stream) -> Iterator[Finding]:
    for uri, said, rates in _rated(stream):
        yield from _within(stream, uri, said.get("BANDWIDTH"), "BANDWIDTH", rates.peak)


def average_bandwidth(stream: Stream) -> Iterator[Finding]:
    for uri, said, rates in _rated(stream):
        if "AVERAGE-BANDWIDTH" in said:
            yield from _within(stream, uri, said["AVERAGE-BANDWIDTH"], "AVERAGE-BANDWIDTH", rates.average)


def _within(stream: Stream, uri: str, said: str | None, name: str, rate: Fraction) -> Iterator[Finding]:
    if not said or not WHOLE.fullmatch(said) or abs(int(said) - rate) > rate * RATE_SLACK:
        yield stream.master_key, f"{name} of {uri} is {said or 'missing'}; measured are {round(rate)} bit/s."


def peaks(stream: Stream) -> Iterator[Finding]:
    for uri, _, rates in _rated(stream):
        if rates.peak > 2 * rates.average:
            yield stream.master_key, f"The peak of {uri} is {float(rates.peak / rates.average):.1f} × its average."


def has_average(stream: Stream) -> Iterator[Finding]:
    yield from _lacking(stream, [(v.uri, v.attributes) for v in stream.described()], "AVERAGE-BANDWIDTH")


def has_codecs(stream: Stream) -> Iterator[Finding]:
    yield from _lacking(stream, [(v.uri, v.attributes) for v in stream.described()], "CODECS")


def has_resolution(stream: Stream) -> Iterator[Finding]:
    yield from _lacking(stream, _pictured(stream), "RESOLUTION")


def has_frame_rate(stream: Stream) -> Iterator[Finding]:
    yield from _lacking(stream, _pictured(stream), "FRAME-RATE")


def iframe_attributes(stream: Stream) -> Iterator[Finding]:
    for name in ("CODECS", "RESOLUTION", "URI"):
        yield from _lacking(
            stream, [(item.get("URI", "an I-frame stream"), item) for item in stream.master.iframes], name
        )


def _pictured(stream: Stream) -> list[tuple[str, dict[str, str]]]:
    """Lines of the variants with pictures, as their samples say or, unread, as they say themselves."""
    known = {resolve(stream.master_key, variant.uri): track.video for variant, track in stream.variants()}
    return [
        (variant.uri, variant.attributes)
        for variant in stream.described()
        if known.get(resolve(stream.master_key, variant.uri), "RESOLUTION" in variant.attributes)
    ]


def _lacking(stream: Stream, lines: list[tuple[str, dict[str, str]]], name: str) -> Iterator[Finding]:
    for uri, said in lines:
        if not said.get(name):
            yield stream.master_key, f"{name} of {uri} is missing."


def codecs(stream: Stream) -> Iterator[Finding]:
    """What CODECS promises is what avcC and esds hold."""
    for variant, track in stream.variants():
        others = [stream.tracks.get(key) for key in sounds(stream, variant)]
        inits = [track.init, *track.beside, *(other.init for other in others if other)]
        if "CODECS" in variant.attributes and all(others):
            yield from _codecs(stream, variant.uri, variant.attributes["CODECS"], inits)
    tracks = {track.init_key: track for track in stream.tracks.values()}
    for item, key, media in stream.iframes():
        found = tracks.get(resolve(key, media.map_uri))
        if found and "CODECS" in item:
            yield from _codecs(stream, item["URI"], item["CODECS"], [found.init])


def _codecs(stream: Stream, uri: str, text: str, inits: list[Init]) -> Iterator[Finding]:
    said = [codec.strip() for codec in text.split(",")]
    missing = [init for init in inits if not any(_is(codec, init) for codec in said)]
    needless = [c for c in said if not c.startswith(TEXT_CODECS) and not any(_is(c, init) for init in inits)]
    if missing or needless:
        held = ",".join(sorted({init.codec for init in inits}))
        yield stream.master_key, f"CODECS of {uri} is {text}; the bytes say {held}."


def _is(codec: str, init: Init) -> bool:
    if init.known:
        return codec.lower() == init.codec.lower()
    return codec.partition(".")[0].lower() == init.codec.lower()


def resolution(stream: Stream) -> Iterator[Finding]:
    for variant, track in stream.variants():
        said = variant.attributes.get("RESOLUTION")
        if said and track.video and said != f"{track.init.width}x{track.init.height}":
            true = f"{track.init.width}x{track.init.height}"
            yield stream.master_key, f"RESOLUTION of {variant.uri} is {said}; the samples say {true}."


def frame_rate(stream: Stream) -> Iterator[Finding]:
    """Between the samples' average and the shortest of them."""
    for variant, track in stream.variants():
        said = variant.attributes.get("FRAME-RATE")
        if not said or not track.video:
            continue
        average = sum(len(segment.times) for segment in track.segments) / track.duration
        fastest = Fraction(track.init.timescale, min(segment.shortest for segment in track.segments))
        low, high = average * (1 - FRAME_RATE_SLACK), fastest * (1 + FRAME_RATE_SLACK)
        if not SECONDS.fullmatch(said) or not low <= Fraction(said) <= high:
            true = f"{float(average):.3f}"
            yield stream.master_key, f"FRAME-RATE of {variant.uri} is {said}; the samples say {true}."


def groups(stream: Stream) -> Iterator[Finding]:
    there = {(item.get("TYPE"), item.get("GROUP-ID")) for item in stream.master.renditions}
    for variant in stream.described():
        for kind in GROUPS:
            group = variant.attributes.get(kind)
            if group and (kind, group) != ("CLOSED-CAPTIONS", "NONE") and (kind, group) not in there:
                yield stream.master_key, f"{variant.uri} names the {kind} group {group}, which has no rendition."


def renditions(stream: Stream) -> Iterator[Finding]:
    """Players can choose and describe what is in a group."""
    for item in stream.master.renditions:
        wanted = ["TYPE", "GROUP-ID", "NAME", *(["URI"] if item.get("TYPE") == "SUBTITLES" else [])]
        missing = [name for name in wanted if not item.get(name)]
        if missing:
            yield stream.master_key, f"A rendition has no {', '.join(missing)}."
        if item.get("DEFAULT") == "YES" and item.get("AUTOSELECT", "YES") != "YES":
            yield stream.master_key, f"{item.get('NAME')} is a default that may not be selected automatically."
    names = Counter((item.get("TYPE"), item.get("GROUP-ID"), item.get("NAME")) for item in stream.master.renditions)
    defaults = Counter(
        (i.get("TYPE"), i.get("GROUP-ID")) for i in stream.master.renditions if i.get("DEFAULT") == "YES"
    )
    for (kind, group, name), count in names.items():
        if count > 1:
            yield stream.master_key, f"{count} renditions of the {kind} group {group} are called {name}."
    for (kind, group), count in defaults.items():
        if count > 1:
            yield stream.master_key, f"The {kind} group {group} has {count} defaults."


def language(stream: Stream) -> Iterator[Finding]:
    for item in stream.master.renditions:
        if item.get("TYPE") != "VIDEO" and not item.get("LANGUAGE"):
            yield stream.master_key, f"LANGUAGE of the rendition {item.get('NAME')} is missing."


def has_channels(stream: Stream) -> Iterator[Finding]:
    for item in stream.master.renditions:
        if item.get("TYPE") == "AUDIO" and not item.get("CHANNELS"):
            yield stream.master_key, f"CHANNELS of the rendition {item.get('NAME')} is missing."


def channels(stream: Stream) -> Iterator[Finding]:
    """A sample entry may say 2 for a single channel (ISO/IEC 14496-12 §12.2.3)."""
    for item, track in stream.renditions():
        said = item.get("CHANNELS", "").split("/")[0]
        if said and said != str(track.init.channels) and not (said == "1" and track.init.channels == 2):
            yield stream.master_key, f"CHANNELS of {item['URI']} is {said}; the samples have {track.init.channels}."


def has_iframes(stream: Stream) -> Iterator[Finding]:
    if _pictured(stream) and not stream.master.iframes:
        yield stream.master_key, "No EXT-X-I-FRAME-STREAM-INF leads to I-frames."


def iframes_only(stream: Stream) -> Iterator[Finding]:
    for _, key, media in stream.iframes():
        if not media.iframes_only:
            yield key, "EXT-X-I-FRAMES-ONLY is missing."


def iframe_ranges(stream: Stream) -> Iterator[Finding]:
    """A range in a segment that was read begins with a moof and reaches over its first sample, an IDR."""
    segments = {segment.key: segment for track in stream.pictures() for segment in track.segments}
    for _, key, media in stream.iframes():
        for entry in media.entries:
            segment = segments.get(resolve(key, entry.uri))
            if segment and entry.range and not segment.entry.range:
                size, offset = entry.range
                moof = next((moof for moof in segment.moofs if moof.offset == offset), None)
                if moof is None or not moof.idr or size < moof.reach_bytes:
                    yield key, f"{size} bytes at {offset} of {entry.uri} are no moof with the whole of its IDR."


def several_rates(stream: Stream) -> Iterator[Finding]:
    if len(_pictured(stream)) == 1:
        yield stream.master_key, "There is only one variant with pictures."


def same_aspect(stream: Stream) -> Iterator[Finding]:
    shapes = {Fraction(track.init.width, track.init.height or 1) for track in stream.pictures()}
    if shapes and max(shapes) > min(shapes) * Fraction(102, 100):  # even sizes round
        yield stream.master_key, "The variants' pictures have different shapes."


MASTER_RULES = (
    Rule("variants", "RFC 8216 §4.3.4.2", has_variants),
    Rule("bandwidth", "Apple 1.27, RFC 8216 §4.3.4.2", bandwidth),
    Rule("average-bandwidth", "Apple 1.26, RFC 8216 §4.3.4.2", average_bandwidth),
    Rule("has-average-bandwidth", "Apple 9.14", has_average),
    Rule("peaks", "Apple 1.30", peaks, must=False),
    Rule("has-codecs", "Apple 9.1", has_codecs),
    Rule("codecs", "RFC 8216 §4.3.4.2, RFC 6381 §3.3", codecs),
    Rule("has-resolution", "Apple 9.2", has_resolution),
    Rule("resolution", "RFC 8216 §4.3.4.2", resolution),
    Rule("has-frame-rate", "Apple 9.15", has_frame_rate),
    Rule("frame-rate", "RFC 8216 §4.3.4.2", frame_rate),
    Rule("groups", "RFC 8216 §4.3.4.2", groups),
    Rule("renditions", "RFC 8216 §4.3.4.1", renditions),
    Rule("language", "Apple 8.10", language),
    Rule("has-channels", "RFC 8216 §4.3.4.1", has_channels, must=False),
    Rule("channels", "RFC 8216 §4.3.4.1", channels),
    Rule("iframes", "Apple 6.1", has_iframes),
    Rule("iframes-only", "Apple 6.8, RFC 8216 §4.3.3.6", iframes_only),
    Rule("iframe-attributes", "Apple 9.3, 9.4, RFC 8216 §4.3.4.3", iframe_attributes),
    Rule("iframe-ranges", "Apple 6.10, RFC 8216 §4.3.3.6", iframe_ranges),
    # Apple asks for several always; a small source is not enlarged for it, so one rung is no defect of the stream.
    Rule("several-rates", "Apple 9.9", several_rates, must=False),
    Rule("same-aspect", "Apple 1.33", same_aspect, must=False),
)
