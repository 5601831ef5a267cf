"""HLS playlists (RFC 8216) read back, as far as they say something that is proven; unknown tags are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

#: One attribute of a list (§4.2): a name, and a quoted or a bare value.
ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",\s]+)(?:,|$)')
#: Decimal integers and decimal fractions of seconds, of a length that means something (§4.2).
WHOLE, SECONDS = re.compile(r"[0-9]{1,20}"), re.compile(r"[0-9]{1,9}(\.[0-9]{1,20})?")


class BadPlaylist(ValueError):
    """This text is not the playlist it should be."""


@dataclass(frozen=True)
class Variant:
    """An EXT-X-STREAM-INF and the URI below it; quoted values without their quotes."""

    uri: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class Master:
    """A multivariant playlist, as far as it says something that is proven."""

    version: int = 1
    independent: bool = False
    variants: tuple[Variant, ...] = ()
    renditions: tuple[dict[str, str], ...] = ()
    iframes: tuple[dict[str, str], ...] = ()
    #: Made up for a media playlist that nobody describes.
    alone: bool = False


#: (bytes, offset) of a part of an object.
Range = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A segment as a media playlist names it. `range` is None for the whole object."""

    uri: str
    duration: Fraction
    range: Range | None
    #: The init that it needs, and its range.
    map: tuple[str, Range | None] | None = None
    #: It does not follow on the segment before.
    discontinuity: bool = False
    #: Encrypted, or declared missing (EXT-X-KEY, EXT-X-GAP).
    closed: bool = False


@dataclass(frozen=True)
class Media:
    """A media playlist. `target` is 0 and `map_uri` (the first one) empty where the playlist says nothing."""

    version: int = 1
    target: int = 0
    kind: str = ""
    independent: bool = False
    iframes_only: bool = False
    map_uri: str = ""
    ended: bool = False
    entries: tuple[Entry, ...] = ()


def parse_master(text: str) -> Master:
    """Read a multivariant playlist. Raises BadPlaylist with the line."""
    values: dict[str, str] = {}
    found: dict[str, list[dict[str, str]]] = {"EXT-X-MEDIA": [], "EXT-X-I-FRAME-STREAM-INF": []}
    variants: list[Variant] = []
    waiting: dict[str, str] | None = None
    for number, tag, value in _lines(text):
        if (waiting is not None) == bool(tag):
            raise BadPlaylist(f"line {number}: a URI and its EXT-X-STREAM-INF do not stand together")
        if waiting is not None:
            variants.append(Variant(value, waiting))
            waiting = None
        elif tag == "EXT-X-STREAM-INF":
            waiting = attributes(value, f"line {number}")
        elif tag in found:
            found[tag].append(attributes(value, f"line {number}"))
        else:
            values[tag] = value
    if waiting is not None:
        raise BadPlaylist("the last EXT-X-STREAM-INF has no URI")
    return Master(
        version=_integer(values.get("EXT-X-VERSION", "1"), "EXT-X-VERSION"),
        independent="EXT-X-INDEPENDENT-SEGMENTS" in values,
        variants=tuple(variants),
        renditions=tuple(found["EXT-X-MEDIA"]),
        iframes=tuple(found["EXT-X-I-FRAME-STREAM-INF"]),
    )


def parse_media(text: str) -> Media:
    """Read a media playlist. Raises BadPlaylist with the line."""
    values: dict[str, str] = {}
    entries: list[Entry] = []
    about: dict[str, str] = {}
    kept: dict[str, str] = {}
    for number, tag, value in _lines(text):
        if not tag:
            entries.append(_entry(value, {**kept, **about}, entries, number))
            about = {}
        elif tag in {"EXTINF", "EXT-X-BYTERANGE"} and tag in about:
            raise BadPlaylist(f"line {number}: the segment before this {tag} has no URI")
        elif tag in {"EXTINF", "EXT-X-BYTERANGE", "EXT-X-DISCONTINUITY", "EXT-X-GAP"}:
            about[tag] = value
        elif tag in {"EXT-X-MAP", "EXT-X-KEY"}:
            kept[tag] = value
            values.setdefault(tag, value)
        else:
            values[tag] = value
    if about.keys() & {"EXTINF", "EXT-X-BYTERANGE"}:
        raise BadPlaylist("the last segment has no URI")
    return Media(
        version=_integer(values.get("EXT-X-VERSION", "1"), "EXT-X-VERSION"),
        target=_integer(values.get("EXT-X-TARGETDURATION", "0"), "EXT-X-TARGETDURATION"),
        kind=values.get("EXT-X-PLAYLIST-TYPE", ""),
        independent="EXT-X-INDEPENDENT-SEGMENTS" in values,
        iframes_only="EXT-X-I-FRAMES-ONLY" in values,
        map_uri=(_map(values) or ("", None))[0],
        ended="EXT-X-ENDLIST" in values,
        entries=tuple(entries),
    )


def is_media(text: str) -> bool:
    """Whether this is a media playlist: it names segments, not playlists."""
    return any(tag in {"EXTINF", "EXT-X-TARGETDURATION"} for _, tag, _ in _lines(text))


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, tag, value); the tag of a URI is empty. Blank lines and comments are left out (§4.1)."""
    if text.split("\n", 1)[0].rstrip("\r") != "#EXTM3U":
        raise BadPlaylist("line 1: it does not begin with #EXTM3U")
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if line.startswith("#EXT"):
            tag, _, value = line[1:].partition(":")
            yield number, tag, value
        elif line and not line.startswith("#"):
            yield number, "", line


def _entry(uri: str, about: dict[str, str], before: list[Entry], number: int) -> Entry:
    seconds = about.get("EXTINF", "").split(",")[0]
    if not SECONDS.fullmatch(seconds):
        raise BadPlaylist(f"line {number}: the segment has no EXTINF with a duration")
    span = _range(about["EXT-X-BYTERANGE"], _end(uri, before)) if "EXT-X-BYTERANGE" in about else None
    return Entry(
        uri,
        Fraction(seconds),
        span,
        map=_map(about),
        discontinuity="EXT-X-DISCONTINUITY" in about,
        closed=_encrypted(about) or "EXT-X-GAP" in about,
    )


def _range(text: str, start: int) -> Range:
    size, _, offset = text.partition("@")
    return _integer(size, "EXT-X-BYTERANGE"), _integer(offset, "EXT-X-BYTERANGE") if offset else start


def _map(tags: dict[str, str]) -> tuple[str, Range | None] | None:
    """The init segment of EXT-X-MAP (§4.3.2.5)."""
    if "EXT-X-MAP" not in tags:
        return None
    said = attributes(tags["EXT-X-MAP"], "EXT-X-MAP")
    return said.get("URI", ""), _range(said["BYTERANGE"], 0) if "BYTERANGE" in said else None


def _encrypted(tags: dict[str, str]) -> bool:
    return "EXT-X-KEY" in tags and attributes(tags["EXT-X-KEY"], "EXT-X-KEY").get("METHOD") != "NONE"


def _end(uri: str, before: list[Entry]) -> int:
    """A range without an offset begins where the one before it in the same object ended (§4.3.2.2)."""
    last = before[-1] if before else None
    return sum(last.range) if last and last.range and last.uri == uri else 0


def attributes(text: str, where: str) -> dict[str, str]:
    """An attribute list (§4.2), quotes taken off."""
    pairs = [(match[1], match[2].strip('"'), match.span()) for match in ATTRIBUTE.finditer(text)]
    if "".join(text[first:last] for _, _, (first, last) in pairs) != text:
        raise BadPlaylist(f"{where}: the attribute list cannot be read")
    return {name: value for name, value, _ in pairs}


def _integer(text: str, tag: str) -> int:
    if not WHOLE.fullmatch(text):
        raise BadPlaylist(f"the value of {tag} is no whole number")
    return int(text)
