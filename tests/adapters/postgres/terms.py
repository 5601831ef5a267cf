"""Every guard of a statement, and the statement without it.

A guard is one operand of an AND or an OR, the condition of a WHERE, an ON or a WHEN, a row lock, its SKIP LOCKED, a
LIMIT or an ON CONFLICT. An operand goes by becoming what it cannot matter as: TRUE under AND, FALSE under OR. So a term
that is written tomorrow is dropped tomorrow, without a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.adapters.postgres.statements import HEADING, Statement, sql_files, statements

TOKEN = re.compile(r"'(?:[^']|'')*'|%\(\w+\)s|\{\w+\}|[A-Za-z_][\w.]*|\d+|::|[<>!=]+|\S")
#: An expression ends before one of these, at its own depth.
BOUNDARIES = {
    *("SELECT", "FROM", "JOIN", "ON", "WHERE", "GROUP", "ORDER", "LIMIT", "FOR", "SET", "VALUES", "RETURNING"),
    *("CASE", "WHEN", "THEN", "ELSE", "END", "AS", ",", ";"),
}
#: What follows these is a condition, also when it is a single term.
CONDITIONS = {"WHERE": "TRUE", "ON": "TRUE", "WHEN": "FALSE"}
CLAUSES = {
    "lock": re.compile(r"\s+FOR (?:NO KEY UPDATE|SHARE)(?: OF \w+)?(?: SKIP LOCKED)?"),
    "skip": re.compile(r" SKIP LOCKED"),
    "limit": re.compile(r"\s+LIMIT (?:%\(\w+\)s|\d+)"),
    "conflict": re.compile(r"\s+ON CONFLICT DO NOTHING"),
}
OWNERSHIP = ("leases.sql", "chunks.sql", "sweeps.sql")


@dataclass(frozen=True)
class Guard:
    """`term` is the SQL that goes, from `start` on; `number` tells apart those of a statement that read the same."""

    statement: str
    term: str
    number: int
    start: int
    mutant: Statement

    def __str__(self) -> str:
        return f"{self.statement}: {self.term}" + (f" ({self.number})" if self.number > 1 else "")


@dataclass(frozen=True)
class Word:
    text: str
    start: int
    end: int
    depth: int


def ownership_statements() -> dict[str, Statement]:
    """Those that say who owns what, by name."""
    texts = [file.read_text() for file in sql_files("") if file.name in OWNERSHIP]
    names = {name for text in texts for kind, name in HEADING.findall(text) if kind == "name"}
    return {name: statement for name, statement in statements().items() if name in names}


def guards(statement: Statement) -> list[Guard]:
    """One for every term of the statement, fragments included."""
    found: list[Guard] = []
    text = statement.text
    for start, end, instead in sorted({*_terms(text), *_clauses(text)}):
        term = " ".join(text[start:end].split())
        number = 1 + sum(guard.term == term for guard in found)
        mutant = replace(statement, text=text[:start] + instead + text[end:])
        found.append(Guard(statement.name, term, number, start, mutant))
    return found


def _clauses(text: str) -> Iterator[tuple[int, int, str]]:
    for pattern in CLAUSES.values():
        yield from ((found.start(), found.end(), "") for found in pattern.finditer(text))


def _terms(text: str) -> Iterator[tuple[int, int, str]]:
    found = list(words(text))
    for first, word in enumerate(found):
        opens = word.text == "("
        if (opens or _bounds(found, first)) and not _is_on_conflict(found, first):
            yield from _operands(_region(found, first + 1, word.depth + opens), CONDITIONS.get(word.text))


def words(text: str) -> Iterator[Word]:
    """Literals, names, operators, each with the number of parentheses around it."""
    depth = 0
    for found in TOKEN.finditer(text):
        depth -= found[0] == ")"
        yield Word(found[0], found.start(), found.end(), depth)
        depth += found[0] == "("


def _is_on_conflict(words: list[Word], index: int) -> bool:
    return [word.text for word in words[index : index + 2]] == ["ON", "CONFLICT"]


def _bounds(words: list[Word], index: int) -> bool:
    """IS DISTINCT FROM is no FROM."""
    return words[index].text in BOUNDARIES and not (words[index].text == "FROM" and words[index - 1].text == "DISTINCT")


def _region(words: list[Word], first: int, depth: int) -> list[Word]:
    """From here to the next boundary of the same depth, with all that lies deeper."""
    last = first
    while (
        last < len(words) and words[last].depth >= depth and not (words[last].depth == depth and _bounds(words, last))
    ):
        last += 1
    return words[first:last]


def _operands(region: list[Word], alone: str | None) -> Iterator[tuple[int, int, str]]:
    """`alone`: what a single term is replaced with; None: it is no condition."""
    if not region:
        return
    for operator, instead in (("OR", "FALSE"), ("AND", "TRUE")):
        parts = _split(region, operator)
        if len(parts) > 1:
            for part in parts:
                yield part[0].start, part[-1].end, instead
                yield from _operands(part, None)
            return
    if alone:
        yield region[0].start, region[-1].end, alone


def _split(region: list[Word], operator: str) -> list[list[Word]]:
    depth = min(word.depth for word in region)
    parts: list[list[Word]] = [[]]
    for word in region:
        if word.text == operator and word.depth == depth:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts
