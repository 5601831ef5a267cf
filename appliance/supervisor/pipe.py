"""The parent's end of a child's pipe, read without ever blocking.

`Connection.recv` waits for the rest of an event once it has begun; a child that is stopped or killed in the middle of
a write would then stop the supervisor with it. So the frames are put together here: multiprocessing's own format, a
big-endian length of four bytes and a pickle.
"""

from __future__ import annotations

import os
import pickle
import struct
from multiprocessing.connection import Connection
from typing import get_args

from appliance.domain.events import Event

HEADER = struct.Struct("!i")
#: As much as a pipe holds by default (pipe(7)).
READ_BYTES = 65_536
#: An event takes some hundred bytes; a frame beyond this means that the pipe holds something else.
MAX_FRAME_BYTES = 1024 * 1024


class Pipe:
    """`open` is False once the child's end is closed; `unreadable` counts what was no event of ours."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending = b""
        self.open = True
        self.unreadable = 0
        os.set_blocking(connection.fileno(), False)

    def fileno(self) -> int:
        return self._connection.fileno()

    def read(self) -> list[Event]:
        """Every event that has wholly arrived."""
        while self.open:
            try:
                received = os.read(self.fileno(), READ_BYTES)
            except BlockingIOError:
                break
            self.open = bool(received)
            self._pending += received
        return self._events()

    def close(self) -> None:
        self.open = False
        self._connection.close()

    def _events(self) -> list[Event]:
        events: list[Event] = []
        while len(self._pending) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._pending)
            if not 0 <= length <= MAX_FRAME_BYTES:
                self._give_up()
                break
            end = HEADER.size + length
            if len(self._pending) < end:
                break
            events += self._event(self._pending[HEADER.size : end])
            self._pending = self._pending[end:]
        return events

    def _event(self, frame: bytes) -> list[Event]:
        try:
            event = pickle.loads(frame)  # noqa: S301 - our own child, over an anonymous pipe
        except Exception:  # noqa: BLE001 - unpickling raises anything; what it was no longer matters
            event = None
        if isinstance(event, get_args(Event)):
            return [event]
        self.unreadable += 1
        return []

    def _give_up(self) -> None:
        """The stream has lost its frame: nothing after this can be trusted, the silence will end the child."""
        self.unreadable += 1
        self._pending = b""
        self.open = False
