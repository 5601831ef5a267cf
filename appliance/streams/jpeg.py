"""A JPEG's size (ISO/IEC 10918-1 §B.1.1), as far as it takes to know that it is whole."""

from __future__ import annotations

#: Frame headers: SOF0 to SOF15 without the markers of tables between them.
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START, END = b"\xff\xd8", b"\xff\xd9"


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None where the picture does not begin, end or say its size."""
    if not data.startswith(START) or not data.rstrip(b"\0").endswith(END):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in FRAMES:
            height, width = (int.from_bytes(data[place : place + 2], "big") for place in (at + 5, at + 7))
            return (width, height) if width and height else None
        at += 2 + length
    return None
