"""What keeps processes small that there are many of: one heap for all threads, and nothing loaded that nobody uses.

The C library gives threads heaps of their own (arenas), up to eight for each core, and hardly ever gives one back. Each
job's threads would leave a megabyte and a half in one more of them; with the interpreter's lock no thread waits for
another's allocation anyway.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: From `malloc.h`.
M_ARENA_MAX = -8


def one_heap() -> bool:
    """Before the first thread; False where the C library has no arenas (musl). A fork inherits it, an exec does not."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1


@contextmanager
def without(module: str) -> Iterator[None]:
    """In here the module cannot be imported, unless it was before: for a library that loads it because it is there."""
    hidden = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
