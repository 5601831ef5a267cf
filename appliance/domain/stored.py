"""An object as storage, or anybody's server, gives it back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """`data` uncompressed. What the place does not know of an object is None: a directory knows no headers."""

    data: bytes
    content_type: str | None = None
    cache_control: str | None = None
    #: As it lies there or came over the wire, `gzip` or empty.
    content_encoding: str | None = None
    #: Whether the request was answered from elsewhere.
    redirected: bool = False


class Absent(Exception):
    """There is no such object, or the place refuses it; says which in words."""


class TooMuch(Exception):
    """More than the reader was allowed to take."""
