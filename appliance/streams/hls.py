"""HLS playlists (RFC 8216) as text, written from what the chunks recorded."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from appliance.domain.plan import AUDIO_TRACK, Plan
from appliance.streams import languages
from appliance.streams.rates import Rates, measure, target_duration
from appliance.streams.segments import ChunkObjects, Segment, TrackObjects

MASTER = "master.m3u8"
#: fMP4 segments with EXT-X-MAP, and everything else that is written here (RFC 8216 §7).
VERSION = 7
AUDIO_GROUP = "audio"


@dataclass(frozen=True)
class Piece:
    """A segment where a playlist finds it: `uri` relative to the playlist, `duration` in seconds."""

    uri: str
    duration: Fraction
    segment: Segment
    timescale: int


@dataclass(frozen=True)
class Written:
    """One track of the whole presentation: the first chunk's description and everybody's segments."""

    objects: TrackObjects
    map_uri: str
    pieces: tuple[Piece, ...]


def playlists(plan: Plan, chunks: Sequence[ChunkObjects], directory: str) -> dict[str, str]:
    """Name → text of every playlist, to be put under the key `directory`. `chunks` are all of the plan's.

    All media playlists get the same target duration (§6.2.4).
    """
    tracks = {name: _track(name, chunks, directory) for name in plan.tracks}
    target = max(target_duration([piece.duration for piece in track.pieces]) for track in tracks.values())
    texts = {f"{name}.m3u8": media_playlist(track, target) for name, track in tracks.items()}
    for name, track in tracks.items():
        if name != AUDIO_TRACK:
            texts[f"{name}_iframes.m3u8"] = iframe_playlist(track)
    return texts | {MASTER: master_playlist(plan, tracks, target)}


def _track(name: str, chunks: Sequence[ChunkObjects], directory: str) -> Written:
    """The track in the order of the presentation."""
    ordered = sorted(chunks, key=lambda chunk: chunk.number)
    found = [(chunk.prefix, track) for chunk in ordered for track in chunk.tracks if track.track == name]
    pieces = [
        Piece(
            posixpath.relpath(f"{prefix}/{segment.name}", directory),
            Fraction(segment.duration, track.timescale),
            segment,
            track.timescale,
        )
        for prefix, track in found
        for segment in track.segments
    ]
    prefix, first = found[0]
    return Written(first, posixpath.relpath(f"{prefix}/{first.init_name}", directory), tuple(pieces))


def media_playlist(track: Written, target: int) -> str:
    """The segments of one rung, or of the sound."""
    lines = [*_head(target), "#EXT-X-INDEPENDENT-SEGMENTS", f'#EXT-X-MAP:URI="{track.map_uri}"']
    for piece in track.pieces:
        lines += [_extinf(piece.duration), piece.uri]
    return _text([*lines, "#EXT-X-ENDLIST"])


def iframe_playlist(track: Written) -> str:
    """The first picture of every GOP, as a byte range of its segment that begins with the moof (§4.3.3.6)."""
    frames = list(_iframes(track))
    target = target_duration([duration for duration, _ in frames])
    lines = [*_head(target), "#EXT-X-I-FRAMES-ONLY", f'#EXT-X-MAP:URI="{track.map_uri}"']
    for piece in track.pieces:
        for gop in piece.segment.gops:
            duration = Fraction(gop.duration, piece.timescale)
            lines += [_extinf(duration), f"#EXT-X-BYTERANGE:{gop.iframe_bytes}@{gop.offset}", piece.uri]
    return _text([*lines, "#EXT-X-ENDLIST"])


def _iframes(track: Written) -> Iterator[tuple[Fraction, int]]:
    """Seconds and bytes of each I-frame."""
    for piece in track.pieces:
        for gop in piece.segment.gops:
            yield Fraction(gop.duration, piece.timescale), gop.iframe_bytes


def _head(target: int) -> list[str]:
    return [
        "#EXTM3U",
        f"#EXT-X-VERSION:{VERSION}",
        f"#EXT-X-TARGETDURATION:{target}",
        "#EXT-X-PLAYLIST-TYPE:VOD",
    ]


def _extinf(duration: Fraction) -> str:
    return f"#EXTINF:{float(duration):.6f},"


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def master_playlist(plan: Plan, tracks: dict[str, Written], target: int) -> str:
    """Every rung with what it costs, the sound as a rendition, and the I-frame playlists."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    rungs = [name for name in plan.tracks if name != AUDIO_TRACK]
    sound = tracks.get(AUDIO_TRACK)
    audio = _rates(sound, target) if sound else Rates(Fraction(0), Fraction(0))
    if not rungs:
        assert sound is not None, "a plan has at least one track"
        return _text([*lines, _tag("STREAM-INF", **_cost(audio, sound)), f"{AUDIO_TRACK}.m3u8"])
    if sound:
        lines.append(_rendition(plan))
    for name in rungs:
        video = _rates(tracks[name], target)
        both = Rates(video.peak + audio.peak, video.average + audio.average)
        cost = _cost(both, tracks[name], *([sound] if sound else []))
        picture = {**_resolution(tracks[name]), "FRAME_RATE": frame_rate(plan.grid.rate)}
        group = {"AUDIO": f'"{AUDIO_GROUP}"'} if sound else {}
        lines += [_tag("STREAM-INF", **cost, **picture, **group), f"{name}.m3u8"]
    return _text([*lines, *(_iframe_stream(name, tracks[name]) for name in rungs)])


def _rendition(plan: Plan) -> str:
    assert plan.audio is not None
    return _tag(
        "MEDIA",
        TYPE="AUDIO",
        GROUP_ID=f'"{AUDIO_GROUP}"',
        NAME='"Audio"',
        LANGUAGE=f'"{languages.tag(plan.audio.language)}"',
        DEFAULT="YES",
        AUTOSELECT="YES",
        CHANNELS=f'"{plan.audio.channels}"',
        URI=f'"{AUDIO_TRACK}.m3u8"',
    )


def _iframe_stream(name: str, track: Written) -> str:
    frames = list(_iframes(track))
    rates = measure([(size, duration) for duration, size in frames], target_duration([d for d, _ in frames]))
    return _tag("I-FRAME-STREAM-INF", **_cost(rates, track), **_resolution(track), URI=f'"{name}_iframes.m3u8"')


def _cost(rates: Rates, *tracks: Written) -> dict[str, str]:
    codecs = ",".join(track.objects.codec for track in tracks)
    return {
        "BANDWIDTH": str(math.ceil(rates.peak)),
        "AVERAGE_BANDWIDTH": str(math.ceil(rates.average)),
        "CODECS": f'"{codecs}"',
    }


def _resolution(track: Written) -> dict[str, str]:
    return {"RESOLUTION": f"{track.objects.width}x{track.objects.height}"}


def _tag(name: str, **attributes: str) -> str:
    return f"#EXT-X-{name}:" + ",".join(f"{key.replace('_', '-')}={value}" for key, value in attributes.items())


def frame_rate(rate: Fraction) -> str:
    """As FRAME-RATE has it: three decimals (§4.3.4.2)."""
    return f"{float(rate):.3f}"


def _rates(track: Written, target: int) -> Rates:
    return measure([(piece.segment.size_bytes, piece.duration) for piece in track.pieces], target)
