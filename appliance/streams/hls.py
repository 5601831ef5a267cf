"""HLS playlists (RFC 8216) as text, written from what the chunks recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from appliance.domain.plan import AUDIO_TRACK
from appliance.streams import languages
from appliance.streams.presentation import Presentation, Subtitle, Written
from appliance.streams.rates import Rates, measure, target_duration

MASTER = "master.m3u8"
#: fMP4 segments with EXT-X-MAP, and everything else that is written here (RFC 8216 §7).
VERSION = 7
AUDIO_GROUP, TEXT_GROUP = "audio", "text"


def playlists(presentation: Presentation) -> dict[str, str]:
    """Name → text of every playlist."""
    target = presentation.target
    texts = {f"{name}.m3u8": media_playlist(track, target) for name, track in presentation.tracks.items()}
    texts |= {f"{name}_iframes.m3u8": iframe_playlist(presentation.tracks[name]) for name in presentation.rungs}
    seconds = presentation.plan.grid.duration_seconds
    texts |= {f"{text.track.name}.m3u8": text_playlist(text, seconds) for text in presentation.subtitles}
    return texts | {MASTER: master_playlist(presentation)}


def media_playlist(track: Written, target: int) -> str:
    """The segments of one rung, or of the sound."""
    lines = [*_head(target), "#EXT-X-INDEPENDENT-SEGMENTS", f'#EXT-X-MAP:URI="{track.map_uri}"']
    for piece in track.pieces:
        lines += [_extinf(piece.duration), piece.uri]
    return _text([*lines, "#EXT-X-ENDLIST"])


def text_playlist(text: Subtitle, seconds: Fraction) -> str:
    """One segment for all subtitles; its own target duration is allowed (§6.2.4)."""
    return _text([*_head(target_duration([seconds])), _extinf(seconds), text.uri, "#EXT-X-ENDLIST"])


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


def master_playlist(presentation: Presentation) -> str:
    """Every rung with what it costs, sound and subtitles as renditions, and the I-frame playlists."""
    plan, tracks, sound = presentation.plan, presentation.tracks, presentation.sound
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    groups = {"SUBTITLES": f'"{TEXT_GROUP}"'} if presentation.subtitles else {}
    lines += [_subtitle(text) for text in presentation.subtitles]
    if not presentation.rungs:
        assert sound is not None, "a plan has at least one track"
        cost = _cost(presentation.audio_rates, sound)
        return _text([*lines, _tag("STREAM-INF", **cost, **groups), f"{AUDIO_TRACK}.m3u8"])
    if sound:
        lines.append(_rendition(presentation))
        groups["AUDIO"] = f'"{AUDIO_GROUP}"'
    for name in presentation.rungs:
        both = tracks[name].rates(presentation.target) + presentation.audio_rates
        cost = _cost(both, tracks[name], *([sound] if sound else []))
        picture = {**_resolution(tracks[name]), "FRAME_RATE": frame_rate(plan.grid.rate), "CLOSED_CAPTIONS": "NONE"}
        lines += [_tag("STREAM-INF", **cost, **picture, **groups), f"{name}.m3u8"]
    return _text([*lines, *(_iframe_stream(name, tracks[name]) for name in presentation.rungs)])


def _rendition(presentation: Presentation) -> str:
    audio = presentation.plan.audio
    assert audio is not None, "there is sound"
    return _tag(
        "MEDIA",
        TYPE="AUDIO",
        GROUP_ID=f'"{AUDIO_GROUP}"',
        NAME='"Audio"',
        LANGUAGE=f'"{languages.tag(audio.language)}"',
        DEFAULT="YES",
        AUTOSELECT="YES",
        CHANNELS=f'"{audio.channels}"',
        URI=f'"{AUDIO_TRACK}.m3u8"',
    )


def _subtitle(text: Subtitle) -> str:
    return _tag(
        "MEDIA",
        TYPE="SUBTITLES",
        GROUP_ID=f'"{TEXT_GROUP}"',
        NAME=f'"{text.name}"',
        LANGUAGE=f'"{text.language}"',
        DEFAULT="NO",
        AUTOSELECT="YES",
        URI=f'"{text.track.name}.m3u8"',
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
