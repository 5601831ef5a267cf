"""A folder of recordings and what should become of each: `MANIFEST.tsv`, with at least `path` and `expected`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NAME = "MANIFEST.tsv"
#: Phrases that leave it to the appliance; they are looked for first.
EITHER = (" or ", "either", "with ffmpeg 5.1")
#: The quick subset: this many of the smallest files for each expectation.
QUICK = {"encodes": 4, "rejection": 3, "either": 1}


class Expectation(StrEnum):
    """READY and whole; FAILED with a code and a sentence; one of the two."""

    ENCODES = "encodes"
    REJECTION = "rejection"
    EITHER = "either"


class BadManifest(Exception):
    """The folder cannot be measured; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One line. `path` is as written there, `file` where it lies."""

    path: str
    expected: str
    file: Path

    @property
    def expectation(self) -> Expectation:
        return expectation(self.expected)


def expectation(expected: str) -> Expectation:
    """What the words of the manifest ask for. Raises BadManifest when they ask for nothing that we know."""
    if any(phrase in expected for phrase in EITHER):
        return Expectation.EITHER
    if expected.startswith("encodes"):
        return Expectation.ENCODES
    if expected.startswith("clear rejection"):
        return Expectation.REJECTION
    raise BadManifest(f"`{expected}` is not understood: begin with `encodes` or `clear rejection`.")


def read(folder: Path) -> list[Entry]:
    """Every line, in order. Raises BadManifest: no folder, no manifest, no such column, not understood, no line."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
    except OSError as error:
        raise BadManifest(f"{folder / NAME} cannot be read: {error.strerror}.") from error
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    if missing := {"path", "expected"} - set(rows.fieldnames or ()):
        raise BadManifest(f"{folder / NAME} has no column {' and '.join(sorted(missing))}.")
    entries = [Entry(row["path"], (row["expected"] or "").strip(), folder / row["path"]) for row in rows]
    for entry in entries:
        expectation(entry.expected)
    if not entries:
        raise BadManifest(f"{folder / NAME} names no file.")
    return entries


def quick(entries: list[Entry]) -> list[Entry]:
    """A subset that takes seconds: the smallest files, of each expectation some."""
    present = sorted((entry for entry in entries if entry.file.is_file()), key=lambda entry: entry.file.stat().st_size)
    kept = {
        entry
        for wanted, count in QUICK.items()
        for entry in [entry for entry in present if entry.expectation == wanted][:count]
    }
    return [entry for entry in entries if entry in kept]
