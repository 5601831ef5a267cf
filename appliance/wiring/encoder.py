"""The entry of a child: its objects are made here, after the fork, and nowhere else."""

from __future__ import annotations

import os
import socket
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import structlog

from appliance import log
from appliance.adapters.ffmpeg import tools
from appliance.adapters.postgres.chunks import Chunks
from appliance.config import Config
from appliance.domain.errors import ConfigError, Transient
from appliance.domain.events import EXIT_CONFIG, EXIT_NOT_STARTED
from appliance.domain.layout import Layout, media_of
from appliance.domain.video import Worker
from appliance.encoder.assist import Assistant
from appliance.encoder.database import Access
from appliance.encoder.drain import Drain
from appliance.encoder.heartbeat import Heartbeat, Rhythm
from appliance.encoder.lookout import Lookout
from appliance.encoder.messages import Messages
from appliance.encoder.parent import Parent, die_with_parent
from appliance.encoder.process import Encoder, Work
from appliance.encoder.reach import Reach
from appliance.encoder.sources import Cache, Sources
from appliance.encoder.workspace import Workspace
from appliance.wiring import adapters, engine

#: The longest `leased_by` of an adopted table.
NAME_CHARACTERS = 64


def main(config: Config, slot: int, connection: Connection) -> NoReturn:
    """What the pool starts; multiprocessing drops what a target returns, so the status leaves as SystemExit."""
    try:
        sys.exit(run(config, slot, connection))
    except Exception:  # noqa: BLE001 - multiprocessing would print it with whatever secret is in it
        structlog.get_logger().exception("ENCODER_CRASHED")
        sys.exit(1)


def run(config: Config, slot: int, connection: Connection, work: Work | None = None) -> int:
    """One encoder, until it is told to leave; returns its exit status. `work` takes the place of the pipeline."""
    drain = Drain(config.pool.drain_seconds)
    drain.listen()
    log.configure(config.log.level)
    die_with_parent()
    try:
        log.configure(config.log.level, secrets=adapters.secrets(config))
        encoder = build(config, slot, Parent(connection), drain, work)
    except ConfigError as error:
        structlog.get_logger().error("CONFIGURATION", problems=error.problems)
        return EXIT_CONFIG
    except Transient as error:
        structlog.get_logger().error("NOT_STARTED", error=error.sentence)
        return EXIT_NOT_STARTED
    return encoder.run()


def build(config: Config, slot: int, parent: Parent, drain: Drain, work: Work | None = None) -> Encoder:
    """Two connections to the database: this thread's, and the heartbeat's (F26). Raises ConfigError.

    With a `work` of its own the encoder helps nobody.
    """
    connection = adapters.database(config, f"encoder {slot}")
    on_redis_error = partial(parent.count, "dependency_errors", "redis")
    cache = Cache(Path(config.workspace.directory) / "sources", config.workspace.source_cache_bytes)
    workspace = Workspace(
        Path(config.workspace.directory),
        min_free_bytes=config.workspace.min_free_bytes,
        min_free_memory_bytes=config.workspace.min_free_memory_bytes,
        spare=cache.shrink,
    )
    access = Access(connection, parent=parent, drain=drain, longest_wait_seconds=config.queue.poll_seconds)
    heart = adapters.database(config, f"heartbeat {slot}")
    heartbeat = Heartbeat(
        adapters.leases(config, heart),
        adapters.chunks(config, heart),
        adapters.telemetry(config, on_redis_error),
        rhythm=rhythm(config),
        parent=parent,
    )
    mine: dict[str, Any] = {"worker": worker(slot), "access": access, "heartbeat": heartbeat}
    mine |= {"parent": parent, "drain": drain, "lookout": Lookout(workspace.directory / "lookout")}
    crafts: tuple[Work, Assistant | None] = (
        (work, None) if work else _crafts(config, adapters.chunks(config, connection), workspace, cache, mine)
    )
    return Encoder(
        max_attempts=config.lease.max_attempts,
        leases=adapters.leases(config, connection, wait=drain.wait),
        messages=Messages(adapters.doorbell(config), config.queue, parent, drain),
        telemetry=adapters.telemetry(config, on_redis_error),
        workspace=workspace,
        work=crafts[0],
        assist=crafts[1],
        **mine,
    )


def rhythm(config: Config) -> Rhythm:
    """A turn with dead servers takes two tries of a statement and two of Redis; twice that is a hang."""
    longest_turn = 2 * (config.database.connect_timeout_seconds + config.database.statement_timeout_seconds)
    return Rhythm(
        renew_seconds=config.lease.renew_seconds,
        silent_seconds=config.lease.renew_seconds + 2 * longest_turn,
        grace_seconds=config.lease.grace_seconds,
    )


def worker(slot: int, pid: int = 0) -> Worker:
    """For people to read; identity is the token (F19). `pid`: 0 is this process."""
    host = socket.gethostname()
    place = f":{slot}:{pid or os.getpid()}"
    return Worker(host, host[: NAME_CHARACTERS - len(place)] + place)


def _crafts(
    config: Config, chunks: Chunks, workspace: Workspace, cache: Cache, mine: dict[str, Any]
) -> tuple[Work, Assistant]:
    """One's own videos and others' chunks, with the same tools. Raises ConfigError when there is no usable ffmpeg."""
    found = tools.find(config.ffmpeg.ffmpeg, config.ffmpeg.ffprobe)
    streams, masters = adapters.storages(config, Reach(mine["parent"]).ended)
    workshop = engine.workshop(config, found, streams, chunks)
    sources = Sources(
        masters,
        cache,
        max_bytes=config.workspace.max_source_bytes,
        floor_bytes=config.workspace.min_free_bytes,
    )
    prefix = config.storage.prefix
    pipeline = engine.pipeline(
        config,
        workshop,
        gzip_playlists=config.storage.gzip_playlists,
        fetch=sources,
        workspace=workspace.room,
        layout=partial(Layout.of, prefix),
    )
    media = partial(media_of, prefix)
    return pipeline, Assistant(workshop, chunks=chunks, fetch=sources.planned, room=workspace.room, media=media, **mine)
