"""status.json: what the status page shows, and what other programs may read. Fields are added, never renamed.

Times are Unix seconds where a name ends in `_at`, else durations in seconds. None: not known. Nothing in it names a
file or a title, and nothing opens anything: what goes in is listed here, field by field.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, TypedDict
from urllib.parse import quote, urlsplit

from appliance import __version__
from appliance.domain.video import Status
from appliance.streams.presentation import POSTER
from appliance.supervisor.board import Board, SlotView
from appliance.supervisor.dependencies import Dependencies, Seen

#: Raised when a field changes its meaning.
SHAPE = 1
#: Figures of a receipt that are shown as they are (domain/receipt.py), and those of the whole stream that come before.
FIGURES = (
    *("media_seconds", "wall_seconds", "source_bytes", "rungs"),
    *("chunks_total", "chunks_encoded", "chunks_resumed", "chunks_assisted", "chunks_redone"),
)
WHOLE = ("cpu_seconds", "peak_memory_bytes", "bytes_out")


class Video(TypedDict):
    """An attempt, the latest first. `status` is the row's now, `outcome` the attempt's (None: it runs)."""

    video_id: int
    tenant_id: int | None
    status: str | None
    attempt: int
    host: str
    worker: str
    started_at: float | None
    ended_at: float | None
    outcome: str | None
    error_code: str | None
    error_reason: str | None
    #: Media seconds made a second; only of what became READY.
    speed: float | None
    #: FIGURES and WHOLE of domain/receipt.py, and `warnings`, their number. {} until the attempt ended.
    receipt: dict[str, Any]
    #: Addresses below `status_page.media_base_url`; None without that setting, or without a stream.
    poster: str | None
    master: str | None


class Chunk(TypedDict):
    """`state`: TODO, RUNNING or DONE. `host`, `slot`: of who encodes or encoded it, None for TODO and foreign names."""

    number: int
    state: str
    host: str | None
    slot: int | None
    assisted: bool
    here: bool


class ChunkMap(TypedDict):
    """A video that this host's encoders work on, as owner or assistant."""

    video_id: int
    tenant_id: int | None
    owner: str | None
    chunks: list[Chunk]


class Host(TypedDict):
    """A host that works now, or began or ended an attempt within the last hour (`seen_seconds` ago; None: long ago)."""

    host: str
    here: bool
    busy: int
    seen_seconds: float | None


class Notice(TypedDict):
    """What EC2 says of this host (domain/notice.py). `drains`: its work is handed over."""

    kind: str
    sentence: str
    drains: bool


class Page(TypedDict):
    """The whole of status.json. `dependencies` by name."""

    shape: int
    version: str
    host: str
    #: Of the supervisor, as this host counts: whom `drain` asks.
    pid: int
    uptime_seconds: float
    #: For how long the main loop has stood still, when that is too long.
    stuck_seconds: float | None
    draining: bool
    #: Why no work is taken, in words; empty: ready.
    unready: list[str]
    notices: dict[str, str]
    notice: Notice | None
    #: From scale-in by the host's Auto Scaling group; None: the group was told nothing.
    protected: bool | None
    slots: list[Annotated[dict[str, Any], SlotView]]
    backlog: dict[str, int] | None
    backlog_age_seconds: float | None
    oldest_due_seconds: float | None
    #: [at, UPLOADED, PROCESSING, busy slots of this host], the oldest first; None where the database did not say.
    history: list[tuple[float, int | None, int | None, int]]
    #: The next three come from the database while somebody looks; this is how old they are.
    seen_age_seconds: float | None
    recent: list[Video]
    chunk_maps: list[ChunkMap]
    fleet: list[Host]
    dependencies: dict[str, Annotated[dict[str, Any], Seen]]
    #: Layer of ffmpeg's cage → whether it holds; {} until tried.
    sandbox: dict[str, bool]


def page(board: Board, dependencies: Dependencies, now: float, *, host: str, media_base_url: str) -> Page:
    """Everything, as it is `now` on the board's monotonic clock."""
    work, said = board.at_work, board.notice
    return Page(
        shape=SHAPE,
        version=__version__,
        host=host,
        pid=os.getpid(),
        uptime_seconds=round(now - board.started_at, 1),
        stuck_seconds=board.stuck_seconds(now),
        draining=board.draining,
        unready=board.unready(dependencies.down_seconds()),
        notices=dict(board.notices),
        notice=Notice(kind=said.kind, sentence=said.sentence, drains=said.drains) if said else None,
        protected=board.protected,
        slots=[asdict(slot) for slot in board.slots],
        backlog=board.backlog,
        backlog_age_seconds=_age(board.learnt_at, now),
        oldest_due_seconds=board.oldest_due_seconds,
        history=[(it.at, it.uploaded, it.processing, it.busy) for it in board.history.samples],
        seen_age_seconds=_age(board.seen_at, now),
        recent=[video(row, media_base_url) for row in board.recent],
        chunk_maps=list(_chunk_maps(work.videos, board.slots, host)) if work else [],
        fleet=fleet(work.workers, work.hosts, host) if work else [],
        dependencies={name: asdict(seen) for name, seen in dependencies.seen().items()},
        sandbox=board.sandbox,
    )


def video(row: dict[str, Any], media_base_url: str) -> Video:
    """One row of Reports.recent."""
    receipt = _receipt(row["receipt"] or {})
    media, wall = receipt.get("media_seconds"), receipt.get("wall_seconds")
    path = row["hls_path"] if row["status"] == Status.READY and row["outcome"] == "ready" else None
    pictures = any(str(rung).endswith("p") for rung in receipt.get("rungs") or ())
    return Video(
        video_id=row["video_id"],
        tenant_id=row["tenant_id"],
        status=row["status"],
        attempt=row["epoch"],
        host=row["host"],
        worker=row["worker"],
        started_at=_unix(row["started_at"]),
        ended_at=_unix(row["ended_at"]),
        outcome=row["outcome"],
        error_code=row["error_code"],
        error_reason=row["error_reason"],
        speed=round(media / wall, 2) if row["outcome"] == "ready" and media and wall else None,
        receipt=receipt,
        poster=_address(media_base_url, path.rpartition("/")[0] + f"/{POSTER}") if path and pictures else None,
        master=_address(media_base_url, path) if path else None,
    )


def fleet(workers: list[str], hosts: dict[str, float], here: str) -> list[Host]:
    """This host first, then by name."""
    busy = [place(worker)[0] for worker in workers]
    names = sorted({here, *busy, *hosts}, key=lambda name: (name != here, name))
    return [Host(host=name, here=name == here, busy=busy.count(name), seen_seconds=hosts.get(name)) for name in names]


def place(worker: str) -> tuple[str, int | None]:
    """(host, slot) of a worker's name as wiring.encoder makes it: `host:slot:pid`."""
    host, slot, _pid = [*worker.rsplit(":", 2), "", ""][:3]
    return (host, int(slot)) if slot.isdigit() else (worker, None)


def media_origin(base_url: str) -> str:
    """Scheme, host and port: what the page's policy lets pictures and streams come from; empty without an address."""
    address = urlsplit(base_url)
    return f"{address.scheme}://{address.netloc}" if base_url else ""


def _chunk_maps(videos: list[dict[str, Any]], slots: tuple[SlotView, ...], here: str) -> Iterator[ChunkMap]:
    """As the database had them, and what this host's encoders have begun since."""
    for found in videos:
        begun = {slot.chunk: slot.slot for slot in slots if slot.video_id == found["video_id"]}
        chunks = [_chunk(row, begun.get(row["number"]), here) for row in found["chunks"]]
        yield ChunkMap(video_id=found["video_id"], tenant_id=found["tenant_id"], owner=found["owner"], chunks=chunks)


def _chunk(row: dict[str, Any], begun_by: int | None, here: str) -> Chunk:
    state, (host, slot) = row["state"], place(row["worker"]) if row["worker"] else (None, None)
    if begun_by is not None and state != "DONE":
        state, host, slot = "RUNNING", here, begun_by
    if state == "TODO":
        host = slot = None
    return Chunk(number=row["number"], state=state, host=host, slot=slot, assisted=row["assisted"], here=host == here)


def _receipt(receipt: dict[str, Any]) -> dict[str, Any]:
    whole = receipt.get("video") or {}
    figures = {name: receipt[name] for name in FIGURES if name in receipt}
    figures |= {name: whole.get(name, receipt[name]) for name in WHOLE if name in receipt}
    return {**figures, "warnings": len(receipt.get("warnings") or ())} if receipt else {}


def _address(base_url: str, path: str) -> str | None:
    return f"{base_url.rstrip('/')}/{quote(path)}" if base_url else None


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 1)


def _age(then: float | None, now: float) -> float | None:
    return None if then is None else round(now - then, 1)
