"""Child processes that behave as told: the entry of the pool's tests. Imported by the children themselves."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID, uuid4

from appliance.domain.events import (
    Alive,
    Assisting,
    Booted,
    ChunkClaiming,
    ChunkEnded,
    Claimed,
    Claiming,
    Progress,
    Settled,
)

Behaviour = Callable[[Any, int, Connection], None]


def quiet(_config: Any, _slot: int, connection: Connection) -> None:
    """Idle; leaves when told."""
    told = _told()
    connection.send(Booted(os.getpid()))
    while not told:
        connection.send(Alive({"s3": True}))
        time.sleep(0.02)


def crash(_config: Any, _slot: int, _connection: Connection) -> None:
    sys.exit(1)


def refuse(_config: Any, _slot: int, _connection: Connection) -> None:
    sys.exit(78)


def mute(_config: Any, _slot: int, _connection: Connection) -> None:
    """Never boots."""
    _for_ever()


def deaf(_config: Any, _slot: int, connection: Connection) -> None:
    """Boots, then neither speaks nor listens."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send(Booted(os.getpid()))
    _for_ever()


def half_an_event(_config: Any, _slot: int, connection: Connection) -> None:
    """Boots and stops in the middle of a write."""
    connection.send(Booted(os.getpid()))
    os.write(connection.fileno(), struct.pack("!i", 1000) + b"half")
    _for_ever()


def hold(
    _config: Any, _slot: int, connection: Connection, *, token: UUID, chunk: UUID | None = None, video_id: int = 7
) -> None:
    """Owns a video under `token`, goes on at the first SIGTERM, gives it back at the second."""
    told = _told()
    connection.send(Booted(os.getpid()))
    connection.send(Claiming(token))
    connection.send(Claimed(token, video_id, 3, 1, 2.5))
    if chunk:
        connection.send(ChunkClaiming(chunk))
    while len(told) < 2:
        connection.send(Progress(video_id, 40.0, "encode", speed=2.0))
        time.sleep(0.02)
    if chunk:
        connection.send(ChunkEnded(chunk, "released"))
    connection.send(Settled(token, video_id, "released"))


def help_others(_config: Any, _slot: int, connection: Connection, *, token: UUID) -> None:
    """Encodes a chunk of somebody else's video until the first SIGTERM."""
    told = _told()
    connection.send(Booted(os.getpid()))
    connection.send(ChunkClaiming(token))
    connection.send(Assisting(token, 9, 3, 4))
    while not told:
        time.sleep(0.02)
    connection.send(ChunkEnded(token, "released"))


def one_job(_config: Any, _slot: int, connection: Connection) -> None:
    """A job from claim to READY, then idle."""
    token = uuid4()
    connection.send(Booted(os.getpid()))
    connection.send(Claiming(token))
    connection.send(Claimed(token, 7, 3, 1, 2.5))
    receipt: dict[str, object] = {"media_seconds": 12.0, "bytes_out": 34, "wall_seconds": 6.0, "chunks_resumed": 2}
    connection.send(Settled(token, 7, "ok", receipt=receipt))
    told = _told()
    while not told:
        connection.send(Alive())
        time.sleep(0.02)


def by_slot(config: Any, slot: int, connection: Connection, *, behaviours: tuple[Behaviour, ...]) -> None:
    """Slot 0 does the first, slot 1 the second, …"""
    behaviours[slot](config, slot, connection)


def of(*behaviours: Behaviour) -> Behaviour:
    return partial(by_slot, behaviours=behaviours)


def configured(config: Any, _slot: int, connection: Connection) -> None:
    """Owns video N when the settings say `encode.chunk_seconds: N`."""
    config = replace(config)
    hold(config, 0, connection, token=uuid4(), video_id=int(config.encode.chunk_seconds))


def _told() -> list[int]:
    notes: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: notes.append(number))
    return notes


def _for_ever() -> None:
    while True:
        time.sleep(60)
