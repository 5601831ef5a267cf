"""The same segments as DASH: a static MPD (ISO/IEC 23009-1) as text, written from what the chunks recorded."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from xml.etree import ElementTree as ET

from appliance.domain.plan import AUDIO_RATE, AUDIO_TRACK
from appliance.streams import languages
from appliance.streams.presentation import Presentation, Written

MANIFEST = "manifest.mpd"
NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
#: SegmentList is in neither of the live and on-demand profiles.
PROFILE = "urn:mpeg:dash:profile:full:2011"
ROLES = "urn:mpeg:dash:role:2011"
#: Segments of all Representations begin at the same times, each with an IDR (SAP type 1).
ALIGNED = {"segmentAlignment": "true", "startWithSAP": "1"}
CHANNELS = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"


def manifest(presentation: Presentation) -> str:
    """The MPD: pictures and sound as one AdaptationSet each, and one a subtitle."""
    longest = max(piece.duration for track in presentation.tracks.values() for piece in track.pieces)
    mpd = _add(
        None,
        "MPD",
        xmlns=NAMESPACE,
        profiles=PROFILE,
        type="static",
        mediaPresentationDuration=_duration(presentation.plan.grid.duration_seconds),
        # At @bandwidth, the highest rate of any segment, one whole segment ahead is always enough.
        minBufferTime=_duration(longest),
        maxSegmentDuration=_duration(longest),
    )
    period = _add(mpd, "Period", id="1", start="PT0S")
    if presentation.rungs:
        _pictures(period, presentation)
    if presentation.sound:
        _sound(period, presentation, presentation.sound)
    for number, text in enumerate(presentation.subtitles, start=3):
        group = _add(period, "AdaptationSet", id=number, contentType="text", lang=text.language, mimeType="text/vtt")
        _add(group, "Label").text = text.name
        _add(group, "Role", schemeIdUri=ROLES, value="subtitle")
        rate = max(1, math.ceil(8 * text.size_bytes / presentation.plan.grid.duration_seconds))
        representation = _add(group, "Representation", id=text.track.name, bandwidth=rate)
        _add(representation, "BaseURL").text = text.uri
    ET.indent(mpd)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(mpd, encoding="unicode") + "\n"


def _pictures(period: ET.Element, presentation: Presentation) -> None:
    grid = presentation.plan.grid
    rate = str(grid.rate_num) if grid.rate_den == 1 else f"{grid.rate_num}/{grid.rate_den}"
    group = _add(period, "AdaptationSet", id=1, contentType="video", mimeType="video/mp4", **ALIGNED, frameRate=rate)
    _add(group, "Role", schemeIdUri=ROLES, value="main")
    for name in presentation.rungs:
        objects = presentation.tracks[name].objects
        size = {"width": objects.width, "height": objects.height, "sar": "1:1"}
        representation = _representation(group, presentation, name, **size)
        _segments(representation, presentation.tracks[name], grid.timescale, grid.segment_frames * grid.frame_ticks)


def _sound(period: ET.Element, presentation: Presentation, sound: Written) -> None:
    audio, grid = presentation.plan.audio, presentation.plan.grid
    assert audio is not None, "there is sound"
    language = languages.tag(audio.language)
    group = _add(period, "AdaptationSet", id=2, contentType="audio", lang=language, mimeType="audio/mp4", **ALIGNED)
    _add(group, "Role", schemeIdUri=ROLES, value="main")
    representation = _representation(group, presentation, AUDIO_TRACK, audioSamplingRate=AUDIO_RATE)
    _add(representation, "AudioChannelConfiguration", schemeIdUri=CHANNELS, value=audio.channels)
    # Its segments begin within half an AAC frame of the pictures', so at multiples of their duration.
    _segments(representation, sound, grid.timescale, grid.segment_frames * grid.frame_ticks)


def _representation(group: ET.Element, presentation: Presentation, name: str, **more: object) -> ET.Element:
    track = presentation.tracks[name]
    rate = math.ceil(track.rates(presentation.target).peak)
    return _add(group, "Representation", id=name, bandwidth=rate, codecs=track.objects.codec, **more)


def _segments(representation: ET.Element, track: Written, timescale: int, ticks: int) -> None:
    """Where the segments lie, segment k at k × @duration.

    @duration and no SegmentTimeline (they exclude each other): dash.js 5 looks segments of a list up as time divided by
    one duration, for which it would take a timeline's first, and after four hours of AAC frames be thirteen seconds
    off. Shaka player counts with @duration exactly, too. Where a segment lies in the buffer its tfdt says in both.
    """
    listed = _add(representation, "SegmentList", timescale=timescale, duration=ticks)
    _add(listed, "Initialization", sourceURL=track.map_uri)
    for piece in track.pieces:
        _add(listed, "SegmentURL", media=piece.uri)


def _add(parent: ET.Element | None, name: str, **attributes: object) -> ET.Element:
    element = ET.Element(name, {key: str(value) for key, value in attributes.items()})
    if parent is not None:
        parent.append(element)
    return element


def _duration(seconds: Fraction) -> str:
    """As xs:duration; longer than the exact value by less than a microsecond, so that nothing is cut."""
    return f"PT{math.ceil(seconds * 1_000_000) / 1_000_000:.6f}".rstrip("0").rstrip(".") + "S"


def seconds(duration: str) -> Fraction | None:
    """Of an xs:duration as `_duration` writes it; None for anything else."""
    found = re.fullmatch(r"PT([0-9]{1,9}(?:\.[0-9]{1,9})?)S", duration)
    return Fraction(found[1]) if found else None
