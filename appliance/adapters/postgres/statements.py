"""The .sql files beside this one, as named statements, and the names of the tables they speak of."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable

from psycopg2 import sql

from appliance.domain.video import Edge, Status

HEADING = re.compile(r"^-- (name|fragment): (\w+)$", re.MULTILINE)
EDGE = re.compile(r"^-- edge: (\w+) -> (\w+)$", re.MULTILINE)
COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
REFERENCE = re.compile(r"\{(\w+)\}")
INDEX = re.compile(r"(?:EXISTS|CONCURRENTLY) \{(\w+)\} ON")
#: With its cast, if it has one.
PARAMETER = re.compile(r"%\((\w+)\)s(::\w+(?:\[\])?)?")
#: A table's name follows these words in whatever writes, and never in FOR NO KEY UPDATE.
WRITE = re.compile(r"\b(UPDATE|INTO|DELETE FROM) \{")


@dataclass(frozen=True)
class Statement:
    """`text` has {identifiers} and %(parameters)s, and no comments; `edges` are those it declares."""

    name: str
    text: str
    edges: frozenset[Edge]

    @cached_property
    def writes(self) -> bool:
        return WRITE.search(self.text) is not None

    def composed(self, table: str) -> sql.Composable:
        """For this table; the name stands in front, for whoever reads pg_stat_activity."""
        return sql.SQL(f"/* video-appliance {self.name} */ {self.text}").format(**identifiers(table))

    def prepared(self, query: str) -> tuple[str, str]:
        """PREPARE of the composed text, and the EXECUTE that takes the same parameters.

        In SQL, because psycopg2 does not speak of it in the protocol. The name holds a sum of the text: behind a pooler
        it may meet a namesake of another release or table.
        """
        casts: dict[str, str] = {}
        for name, cast in PARAMETER.findall(query):
            casts[name] = casts.get(name) or cast
        numbers = {name: number for number, name in enumerate(casts, 1)}
        text = PARAMETER.sub(lambda found: f"${numbers[found[1]]}{found[2] or ''}", query)
        known = f"{self.name}_{zlib.crc32(query.encode()):08x}"
        given = ", ".join(f"%({name})s{cast}" for name, cast in casts.items())
        executing = f"/* video-appliance {self.name} */ EXECUTE {known}"
        return f"PREPARE {known} AS {text}", executing + (given and f" ({given})")


def identifiers(table: str) -> dict[str, sql.Identifier]:
    """Every name in the SQL. All but the tick's derive from the video table's, and add at most 15 characters."""
    suffixes = {
        "video": "",
        "video_status": "_status_known",
        "video_due": "_due",
        "video_ring": "_ring",
        "video_held": "_held",
        "attempt": "_attempt",
        "attempt_of": "_attempt_of",
        "attempt_recent": "_attempt_recent",
        "attempt_swept": "_attempt_swept",
        "plan": "_plan",
        "chunk": "_chunk",
        "chunk_running": "_chunk_running",
        "migration": "_migration",
    }
    names = {name: sql.Identifier(table + suffix) for name, suffix in suffixes.items()}
    return {**names, "tick": sql.Identifier("reconcile_tick")}


def statements() -> dict[str, Statement]:
    """Every statement of every .sql file beside this one, by name."""
    texts = [file.read_text(encoding="utf-8") for file in sql_files("")]
    blocks = [block for text in texts for block in _blocks(text)]
    fragments = {name: _bare(body) for kind, name, body in blocks if kind == "fragment"}
    return {name: _statement(name, body, fragments) for kind, name, body in blocks if kind == "name"}


def sql_files(folder: str) -> list[Traversable]:
    """The .sql files of a folder of this package, in the order of their names."""
    place = resources.files(__package__).joinpath(folder)
    return sorted((file for file in place.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)


def indexes(table: str) -> dict[str, str]:
    """Every index that the schema makes for this table → the file that makes it."""
    names = identifiers(table)
    return {
        names[index].string: file.name
        for file in sql_files("schema")
        for index in INDEX.findall(file.read_text(encoding="utf-8"))
    }


def split(script: str) -> list[str]:
    """The statements of a schema file, without comments."""
    return [statement for part in _bare(script).split(";\n") if (statement := part.strip().removesuffix(";"))]


def _blocks(text: str) -> Iterator[tuple[str, str, str]]:
    headings = list(HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        end = following.start() if following else len(text)
        yield heading[1], heading[2], text[heading.end() : end]


def _statement(name: str, body: str, fragments: dict[str, str]) -> Statement:
    text = _bare(body)
    while (expanded := REFERENCE.sub(lambda reference: fragments.get(reference[1], reference[0]), text)) != text:
        text = expanded
    edges = frozenset((Status(before), Status(after)) for before, after in EDGE.findall(body))
    return Statement(name, text, edges)


def _bare(text: str) -> str:
    return COMMENT.sub("", text).strip().removesuffix(";")
