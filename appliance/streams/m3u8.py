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


@dataclass(frozen=True)
class Entry:
    """A segment as a media playlist names it. `range` is (bytes, offset), None for the whole object."""

    uri: str
    duration: Fraction
    range: tuple[int, int] | None


@dataclass(frozen=True)
class Media:
    """A media playlist. `target` is 0 and `map_uri` empty where the playlist says nothing."""

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
    for number, tag, value in _lines(text):
        if not tag:
            entries.append(_entry(value, about, entries, number))
            about = {}
        elif tag in {"EXTINF", "EXT-X-BYTERANGE"}:
            if tag in about:
                raise BadPlaylist(f"line {number}: the segment before this {tag} has no URI")
            about[tag] = value
        elif tag == "EXT-X-MAP" and tag in values:
            raise BadPlaylist(f"line {number}: a second EXT-X-MAP; one init must do for the whole track")
        else:
            values[tag] = value
    if about:
        raise BadPlaylist("the last segment has no URI")
    return Media(
        version=_integer(values.get("EXT-X-VERSION", "1"), "EXT-X-VERSION"),
        target=_integer(values.get("EXT-X-TARGETDURATION", "0"), "EXT-X-TARGETDURATION"),
        kind=values.get("EXT-X-PLAYLIST-TYPE", ""),
        independent="EXT-X-INDEPENDENT-SEGMENTS" in values,
        iframes_only="EXT-X-I-FRAMES-ONLY" in values,
        map_uri=attributes(values["EXT-X-MAP"], "EXT-X-MAP").get("URI", "") if "EXT-X-MAP" in values else "",
        ended="EXT-X-ENDLIST" in values,
        entries=tuple(entries),
    )


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, tag, value); the tag of a URI is empty. Blank lines and comments are left out (§4.1)."""
    if text.split("\n", 1)[0].rstrip("\r") != "#EXTM3U":
        raise BadPlaylist("line 1: it does not begin with #EXTM3U")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#EXT"):
            tag, _, value = line[1:].partition(":")
            yield number, tag, value
        elif line and not line.startswith("#"):
            yield number, "", line


def _entry(uri: str, about: dict[str, str], before: list[Entry], number: int) -> Entry:
    seconds = about.get("EXTINF", "").split(",")[0]
    if not SECONDS.fullmatch(seconds):
        raise BadPlaylist(f"line {number}: the segment has no EXTINF with a duration")
    if "EXT-X-BYTERANGE" not in about:
        return Entry(uri, Fraction(seconds), None)
    size, _, offset = about["EXT-X-BYTERANGE"].partition("@")
    start = _integer(offset, "EXT-X-BYTERANGE") if offset else _end(before)
    return Entry(uri, Fraction(seconds), (_integer(size, "EXT-X-BYTERANGE"), start))


def _end(before: list[Entry]) -> int:
    """A range without an offset begins where the one before it ended (§4.3.2.2)."""
    return sum(before[-1].range) if before and before[-1].range else 0


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
