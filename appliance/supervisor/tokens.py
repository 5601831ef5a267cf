"""The tokens each child announced: what to abandon when it dies, and the same on disk for the supervisor's own death.

One small file per child in the runtime directory, which lives as long as the host is up and over a restart of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import structlog

from appliance.domain.events import ChunkClaiming, ChunkEnded, Claimed, Claiming, Event, NotClaimed, Settled


@dataclass(frozen=True)
class Tokens:
    """What the child `pid` holds or is about to claim. `started` is its start time (a pid alone is used again)."""

    slot: int
    pid: int
    started: int
    videos: frozenset[UUID] = frozenset()
    chunks: frozenset[UUID] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.videos or self.chunks)


def after(tokens: Tokens, event: Event) -> Tokens:
    """The child's tokens once it has said this."""
    match event:
        case Claiming(token=token) | Claimed(token=token):
            return replace(tokens, videos=tokens.videos | {token})
        case NotClaimed(token=token) | Settled(token=token):
            return replace(tokens, videos=tokens.videos - {token})
        case ChunkClaiming(token=token):
            return replace(tokens, chunks=tokens.chunks | {token})
        case ChunkEnded(token=token):
            return replace(tokens, chunks=tokens.chunks - {token})
        case _:
            return tokens


class TokenFiles:
    """The directory of those files. Raises OSError when it cannot be written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, tokens: Tokens) -> None:
        """Write the file, whole or not at all. Not synced: it must outlive a process, not the host."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fields = {
            "slot": tokens.slot,
            "pid": tokens.pid,
            "started": tokens.started,
            "videos": sorted(map(str, tokens.videos)),
            "chunks": sorted(map(str, tokens.chunks)),
        }
        path = self._path(tokens)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(fields))
        unfinished.replace(path)

    def forget(self, tokens: Tokens) -> None:
        self._path(tokens).unlink(missing_ok=True)

    def left_over(self) -> Iterator[Tokens]:
        """What earlier supervisors of this host left. A file that cannot be read is removed: its leases end by time."""
        for path in sorted(self._directory.glob("*.tokens")):
            try:
                fields = json.loads(path.read_text())
                yield Tokens(
                    slot=int(fields["slot"]),
                    pid=int(fields["pid"]),
                    started=int(fields["started"]),
                    videos=frozenset(map(UUID, fields["videos"])),
                    chunks=frozenset(map(UUID, fields["chunks"])),
                )
            except (OSError, ValueError, KeyError, TypeError) as error:
                structlog.get_logger().warning("TOKENS_UNREADABLE", file=str(path), error=str(error))
                path.unlink(missing_ok=True)

    def _path(self, tokens: Tokens) -> Path:
        return self._directory / f"{tokens.slot}-{tokens.pid}-{tokens.started}.tokens"


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the process's start (proc(5), field 22); None when it is gone, a zombie included."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command (field 2) is in brackets and may hold anything, so the fields are counted from its end.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def running(tokens: Tokens) -> bool:
    """Whether the very process that announced them still runs."""
    return start_time(tokens.pid) == tokens.started
