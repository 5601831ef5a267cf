"""What was promised beside the HLS playlists: MPD, subtitles, poster and storyboard, and how all of it lies there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fractions import Fraction
from xml.etree import ElementTree as ET

from appliance.domain.plan import AUDIO_TRACK
from appliance.streams import cues, dash, jpeg, storyboard, texts
from appliance.streams.cues import BadText
from appliance.streams.master_rules import RATE_SLACK
from appliance.streams.presentation import POSTER, extras, poster_key
from appliance.streams.promises import Promise, Promised
from appliance.streams.rates import measure
from appliance.streams.segments import Kind
from appliance.streams.stream import Finding, Track, resolve

MPD = {"": dash.NAMESPACE}
#: Segments never change, what names them may: a year and immutable, or at most minutes, in seconds.
FOREVER, SOON = 31_536_000, 600
TYPES = {
    ".m3u8": texts.PLAYLIST_TYPE,
    ".mpd": texts.MANIFEST_TYPE,
    ".vtt": texts.TEXT_TYPE,
    ".jpg": "image/jpeg",
}


def manifest(promised: Promised) -> Iterator[Finding]:
    """The MPD names the same segments as the playlists, with the durations, rates and codecs of their bytes."""
    key = promised.beside(dash.MANIFEST)
    found = promised.files.get(key)
    if found is None:
        return
    try:
        mpd = ET.fromstring(found.data)  # noqa: S314 - Expat of today refuses entity bombs, and the file is ours
    except ET.ParseError as error:
        yield key, f"It is no XML: {error}."
        return
    length = dash.seconds(mpd.get("mediaPresentationDuration", ""))
    if mpd.get("type") != "static" or length is None or abs(length - promised.plan.grid.duration_seconds) > 1:
        yield key, "It is not a static presentation of the recording's length."
    representations = {item.get("id", ""): item for item in mpd.iterfind(".//Representation", MPD)}
    subtitles = {text.track.name: text for text in promised.presentation.subtitles}
    wanted = [*promised.presentation.tracks, *subtitles]
    if list(representations) != wanted:
        yield key, f"Its representations are {list(representations)}; published are {wanted}."
    for name, track in promised.tracks():
        if name in representations:
            yield from _representation(key, name, representations[name], track, promised)
    for name, text in subtitles.items():
        if representations.get(name, mpd).findtext("BaseURL", namespaces=MPD) != text.uri:
            yield key, f"{name} does not lead to {text.uri}."


def _representation(key: str, name: str, item: ET.Element, track: Track, promised: Promised) -> Iterator[Finding]:
    listed, grid = item.find("SegmentList", MPD), promised.plan.grid
    if listed is None:
        yield key, f"{name} has no SegmentList."
        return
    every = Fraction(_whole(listed, "duration"), _whole(listed, "timescale") or 1)
    if every != grid.segment_frames / grid.rate:
        yield key, f"Segments of {name} follow each other after {float(every):.3f} s in it."
    names = [resolve(key, url.get("media", "")) for url in listed.iterfind("SegmentURL", MPD)]
    if names != [segment.key for segment in track.segments]:
        yield key, f"It does not name the {len(track.segments)} segments of {name} in their order."
    init = listed.find("Initialization", MPD)
    if init is None or resolve(key, init.get("sourceURL", "")) != track.init_key:
        yield key, f"The init of {name} is not that of the playlist."
    rate = measure(promised.stream.weights[track.key], track.media.target).peak
    if abs(_whole(item, "bandwidth") - rate) > rate * RATE_SLACK:
        yield key, f"bandwidth of {name} is {item.get('bandwidth')}; measured are {round(rate)} bit/s."
    said = (item.get("codecs"), item.get("width"), item.get("height"))
    size = (str(track.init.width), str(track.init.height)) if track.video else (None, None)
    if said != (track.init.codec, *size):
        yield key, f"{name} is described as {said}; the bytes say {(track.init.codec, *size)}."


def _whole(item: ET.Element, name: str) -> int:
    """A number of an attribute; 0 where there is none."""
    text = item.get(name, "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


def subtitles(promised: Promised) -> Iterator[Finding]:
    """Each subtitle's playlist names its file, whose cues begin in order and within the recording."""
    length = promised.plan.grid.duration_seconds
    for text in promised.presentation.subtitles:
        playlist, key = promised.key(text.track.name), promised.beside(text.uri)
        media = promised.stream.playlists.get(playlist)
        if media is None or [resolve(playlist, entry.uri) for entry in media.entries] != [key]:
            yield playlist, f"It does not name {text.uri} alone."
        shown = promised.stream.texts[key].cues if key in promised.stream.texts else ()
        starts = [cue.start for cue in shown]
        if starts != sorted(starts) or any(start >= length for start in starts):
            yield key, "Its cues are out of order or begin after the end of the recording."


def board(promised: Promised) -> Iterator[Finding]:
    """The storyboard's cues follow each other over the whole recording; each names its piece of its sheet."""
    plan, key = promised.plan, promised.beside(storyboard.NAME)
    found = promised.files.get(key)
    if plan.storyboard is None or found is None:
        return
    try:
        shown = cues.parse(found.data).cues
    except BadText as error:
        yield key, f"It cannot be read: {error}."
        return
    rate, size = plan.grid.rate, (plan.storyboard.width, plan.storyboard.height)
    wanted = [
        (
            storyboard.timestamp(p.first / rate),
            storyboard.timestamp(p.last / rate),
            f"{p.uri}#xywh={p.x},{p.y},{size[0]},{size[1]}",
        )
        for p in promised.presentation.pictures
    ]
    if [(storyboard.timestamp(cue.start), storyboard.timestamp(cue.end), cue.text.strip()) for cue in shown] != wanted:
        yield key, f"Its {len(shown)} cues are not the {len(wanted)} pictures of the sheets, in their order."
    if len(wanted) != sum(plan.storyboard.pictures(chunk) for chunk in plan.chunks if chunk.pictures):
        yield key, "The sheets do not cover the recording."


def pictures(promised: Promised) -> Iterator[Finding]:
    """Poster and sheets are whole JPEGs; a sheet has the size of its columns and rows."""
    frame = promised.plan.storyboard
    sheets = dict.fromkeys(key for key, _ in extras(promised.expected.chunks, Kind.SPRITE))
    for key, found in promised.files.items():
        if key in sheets or posixpath.basename(key) == POSTER:
            size = jpeg.size(found.data)
            if size is None:
                yield key, "It is no whole JPEG."
            elif key in sheets and frame and size != (frame.width * frame.columns, frame.height * frame.rows):
                yield key, f"It has {size[0]}x{size[1]} pixels, not {frame.columns}x{frame.rows} pictures."
    poster, recorded = promised.files.get(promised.beside(POSTER)), poster_key(promised.expected.chunks)
    if poster and recorded and len(poster.data) != promised.sizes.get(recorded):
        yield promised.beside(POSTER), f"It is not {recorded}."


def delivery(promised: Promised) -> Iterator[Finding]:
    """Types, cache headers and encoding as players and caches need them; a place that knows no headers is not asked."""
    media = {key for chunk in promised.expected.chunks for key in chunk.sizes()}
    heads = {**promised.stream.heads, **promised.files}
    encodings = {head.content_encoding for key, head in heads.items() if key not in media and _is_text(key)}
    if len(encodings) > 1:
        yield promised.stream.master_key, "Some of the texts lie compressed and some do not."
    for key, head in heads.items():
        if head.content_type is not None and head.content_type != _type(key):
            yield key, f"Its type is {head.content_type or 'missing'}, not {_type(key)}."
        if head.cache_control is not None and not _cached(head.cache_control, forever=key in media):
            yield key, f"Its Cache-Control is {head.cache_control or 'missing'}."
        if head.content_encoding and (key in media or not _is_text(key)):
            yield key, f"It lies {head.content_encoding} encoded, which players do not expect of media."


def _is_text(key: str) -> bool:
    return key.endswith((".m3u8", ".mpd", ".vtt"))


def _type(key: str) -> str:
    if posixpath.basename(key).startswith(f"{AUDIO_TRACK}_"):
        return "audio/mp4"
    return TYPES.get(posixpath.splitext(key)[1], "video/mp4")


def _cached(header: str, *, forever: bool) -> bool:
    age = re.search(r"max-age=([0-9]{1,10})", header)
    if forever:
        return "immutable" in header and age is not None and int(age[1]) >= FOREVER
    return "immutable" not in header and age is not None and int(age[1]) <= SOON


BESIDE = (
    Promise("manifest", "ISO/IEC 23009-1 §5.3", manifest),
    Promise("subtitles", "RFC 8216 §3.5", subtitles),
    Promise("storyboard", "WebVTT §4.1", board),
    Promise("pictures", "ISO/IEC 10918-1", pictures),
    Promise("delivery", "Apple 10.4", delivery),
)
