"""The proof before READY: what lies in storage is read back, box by box, and held against the rules and the plan.

ffmpeg can end with status 0 and leave a playlist with ENDLIST and a twentieth of the lecture (F48); so nothing is
believed that the writer said about itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.streams.promises import PROMISES, Expected, Promised
from appliance.streams.rules import RULES
from appliance.streams.stream import Read, read_stream

__all__ = ["Broken", "Expected", "prove"]

#: Segments read at once: enough to hide a round trip; each is held in memory only while its boxes are read.
READERS = 8


@dataclass(frozen=True)
class Broken:
    """One finding. `object` is a key; `chunk` the number of the chunk to encode again, None where none is to blame."""

    rule: str
    #: Where the rule is written down.
    source: str
    object: str
    sentence: str
    chunk: int | None = None


def prove(
    read: Read, sizes: Mapping[str, int], master: str, expected: Expected, *, readers: int = READERS
) -> list[Broken]:
    """Everything that is wrong with the stream whose master has this key; an empty list is the proof.

    `sizes` lists every object under the chunks' prefixes and in the master's directory, with its bytes. `read` is
    called from several threads; what it raises passes through.
    """
    stream = read_stream(read, sizes, master, readers=readers)
    promised = Promised(stream, sizes, expected)
    found = [(rule.name, rule.source, *finding) for rule in RULES for finding in rule.check(stream)]
    found += [(promise.name, promise.source, *finding) for promise in PROMISES for finding in promise.check(promised)]
    return [Broken(*finding, chunk=expected.chunk_of(finding[2])) for finding in found]
