"""The proof before READY: what lies in storage is read back, box by box, and held against the rules and the plan.

ffmpeg can end with status 0 and leave a playlist with ENDLIST and a twentieth of the lecture (F48); so nothing is
believed that the writer said about itself. `verify` holds anybody's stream against the rules alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from appliance.domain.stored import Absent, Stored, TooMuch
from appliance.streams.beside import BESIDE
from appliance.streams.master_rules import MASTER_RULES
from appliance.streams.presentation import extras
from appliance.streams.promises import PROMISES, UNNAMED, Expected, Promised
from appliance.streams.rules import RULES, Rule
from appliance.streams.segments import Kind
from appliance.streams.stream import Finding, Read, Stream, read_stream, resolve
from appliance.streams.strict import STRICT

__all__ = ["Broken", "Expected", "Verdict", "prove", "verify"]

#: Segments read at once: enough to hide a round trip; each is held in memory only while its boxes are read.
READERS = 8
#: Whether playlists lie compressed is a setting.
OPERATORS_CHOICE = {"gzip"}


@dataclass(frozen=True)
class Broken:
    """One finding. `object` is a key; `chunk` the number of the chunk to encode again, None where none is to blame."""

    rule: str
    #: Where the rule is written down.
    source: str
    object: str
    sentence: str
    chunk: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a stream, what is not as recommended, and what was not looked into (key, sentence)."""

    stream: Stream
    broken: tuple[Broken, ...]
    advice: tuple[Broken, ...]
    unseen: tuple[Finding, ...]


def verify(read: Read, master: str, *, readers: int = READERS) -> Verdict:
    """Hold the stream whose multivariant (or only media) playlist has this key against the rules of everybody."""
    stream = read_stream(read, None, master, readers=readers)
    found = [(rule.must, Broken(rule.name, rule.source, *finding)) for rule, finding in _by_the_rules(stream)]
    broken = tuple(finding for must, finding in found if must)
    return Verdict(stream, broken, tuple(finding for must, finding in found if not must), stream.unseen)


def prove(
    read: Read, sizes: Mapping[str, int], master: str, expected: Expected, *, readers: int = READERS
) -> list[Broken]:
    """Everything that is wrong with the stream whose master has this key; an empty list is the proof.

    `sizes` lists every object under the chunks' prefixes and in the master's directory, with its bytes. `read` is
    called from several threads; what it raises passes through. Segments of rungs that are not published are not read.
    """
    stream = read_stream(read, sizes, master, readers=readers)
    beside = [resolve(master, name) for name in UNNAMED] + [key for key, _ in extras(expected.chunks, Kind.SPRITE)]
    present = [key for key in beside if key in sizes]
    with ThreadPoolExecutor(readers, thread_name_prefix="proof") as pool:
        files = dict(zip(present, pool.map(lambda key: _read_whole(read, key), present), strict=True))
    promised = Promised(stream, sizes, expected, {key: file for key, file in files.items() if file})
    must = [found for found in _by_the_rules(stream) if found[0].must and found[0].name not in OPERATORS_CHOICE]
    found = [(rule.name, rule.source, *finding) for rule, finding in must]
    found += [(name, source, *finding) for name, source, check in STRICT for finding in check(stream)]
    kept = chain(PROMISES, BESIDE)
    found += [(promise.name, promise.source, *finding) for promise in kept for finding in promise.check(promised)]
    return [Broken(*finding, chunk=expected.chunk_of(finding[2])) for finding in dict.fromkeys(found)]


def _read_whole(read: Read, key: str) -> Stored | None:
    """None where it went away after the listing; a rule about the listing's size or its content misses it then."""
    try:
        return read(key, None)
    except (Absent, TooMuch):
        return None


def _by_the_rules(stream: Stream) -> Iterator[tuple[Rule, Finding]]:
    for rule in (*RULES, *MASTER_RULES):
        for finding in rule.check(stream):
            yield rule, finding
