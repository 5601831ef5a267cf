"""What the status page is shown to be looked at: the real server and the real JSON over boards that tell a story."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from appliance.adapters.postgres.reports import AtWork
from appliance.domain.errors import Unavailable
from appliance.domain.notice import Seen, notice
from appliance.supervisor.board import Board, SlotView
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.history import History, Sample
from appliance.supervisor.web.server import Pages, Web
from appliance.supervisor.web.shape import media_origin, page
from tests.supervisor.stage import until

#: 10:42 on a Tuesday (status_page.mjs sets the browser's clock by it): every picture shows the same.
NOW = datetime(2026, 11, 24, 10, 42, tzinfo=UTC).timestamp()
HERE = "enc-1"
CAGE = dict.fromkeys(("no_new_privs", "rlimits", "landlock", "seccomp"), True)
#: Of the board's monotonic clock.
UP_SECONDS = 5 * 3600.0 + 1260


class Scene:
    """A host whose story is told by `board` and `dependencies`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dependencies = Dependencies(lambda: self.now, lambda _name, _label: None)
        for name in ("postgres", "sqs", "redis"):
            self.dependencies.answered("reconcile", name)
        self.dependencies.seen_by_child("slot 0", {"s3": True})
        self.now = UP_SECONDS
        self.board = Board(0.0, self.now, sandbox=dict(CAGE), history=History(60.0))
        self.board.learnt_at = self.board.seen_at = self.now - 4.0
        self.board.slots = tuple(idle(slot) for slot in range(4))
        self.board.backlog, self.board.oldest_due_seconds = {"UPLOADED": 0, "PROCESSING": 0}, None
        self.board.at_work = AtWork([], {"enc-1": 2400.0, "enc-2": 2520.0}, [])
        self.remember(lambda _age: (0, 0, 0))

    def remember(self, story: Callable[[float], tuple[int | None, int | None, int]]) -> None:
        """What a history of four hours holds: `story` takes the hours ago."""
        self.board.history = History(60.0)
        for age in range(240, -1, -1):
            self.board.history.add(Sample(NOW - 60 * age, *story(age / 60)))
        last = self.board.history.samples[-1]
        if self.board.backlog and last.uploaded is not None:
            now = replace(last, uploaded=self.board.backlog["UPLOADED"], processing=self.board.backlog["PROCESSING"])
            self.board.history.samples = (*self.board.history.samples[:-1], now)


def idle(slot: int) -> SlotView:
    return SlotView(slot, "idle", 4100 + slot, 2395.0 + slot, 0, None, None, "", None, None)


def busy(slot: int, video_id: int, percent: float, **changes: Any) -> SlotView:
    fields: dict[str, Any] = {
        "slot": slot,
        "state": "busy",
        "pid": 4100 + slot,
        "since_seconds": 312.0,
        "restarts": 0,
        "video_id": video_id,
        "percent": percent,
        "step": "encode",
        "speed": 3.4,
        "remaining_seconds": 420.0,
        "tenant_id": 12,
        "role": "owner",
        "chunk": 14,
        "elapsed_seconds": 312.0,
    }
    return SlotView(**{**fields, **changes})


def attempt(video_id: int, minutes_ago: float, **changes: Any) -> dict[str, Any]:
    """A row of Reports.recent: READY unless `changes` say otherwise."""
    media, wall = 2875.0 + 37 * (video_id % 11), 812.0 + 13 * (video_id % 7)
    receipt = {
        "media_seconds": media,
        "wall_seconds": wall,
        "cpu_seconds": 1.9 * wall,
        "peak_memory_bytes": 612 << 20,
        "source_bytes": 734 << 20,
        "bytes_out": 521 << 20,
        "rungs": ["1080p", "720p", "480p", "360p", "audio"],
        "chunks_total": 49,
        "chunks_encoded": 41,
        "chunks_assisted": 8,
        "chunks_resumed": 0,
        "warnings": [],
    }
    ended = NOW - 60 * minutes_ago
    return {
        "video_id": video_id,
        "tenant_id": 12,
        "status": "READY",
        "file_key": "uploads/secret title.mp4",
        "hls_path": "master.m3u8",
        "duration": media,
        "epoch": 1,
        "host": HERE,
        "worker": f"{HERE}:2:4102",
        "started_at": datetime.fromtimestamp(ended - wall, UTC),
        "ended_at": datetime.fromtimestamp(ended, UTC),
        "outcome": "ready",
        "error_code": None,
        "error_reason": None,
        "receipt": receipt,
        **changes,
    }


def running(video_id: int, minutes_ago: float) -> dict[str, Any]:
    gone = {"status": "PROCESSING", "outcome": None, "ended_at": None, "receipt": None, "hls_path": None}
    return attempt(video_id, minutes_ago, **gone)


FAILED = attempt(
    *(4708, 27),
    status="FAILED",
    outcome="failed",
    hls_path=None,
    receipt=None,
    error_code="no_video_or_audio",
    error_reason="The file holds neither a picture nor a sound that can be decoded.",
)
RECENT = (attempt(4712, 3), attempt(4711, 9), FAILED, attempt(4709, 31), attempt(4707, 44, epoch=2))


def chunks(count: int, done: int, working: dict[int, tuple[str, bool]]) -> list[dict[str, Any]]:
    """Rows of `at_work`: number → (worker, assisted) for those that run; some of the done were helped with."""
    return [
        {"number": number, "state": "RUNNING", "worker": working[number][0], "assisted": working[number][1]}
        if number in working
        else {"number": number, "state": "DONE", "worker": f"{HERE}:0:4100", "assisted": number % 6 == 5}
        if number < done
        else {"number": number, "state": "TODO", "worker": None, "assisted": False}
        for number in range(count)
    ]


def _tide(hours_ago: float) -> tuple[int, int, int]:
    """A morning of uploads."""
    shake = random.Random(int(hours_ago * 60) // 4).random()
    waiting = max(0, round(9 * math.sin(2.6 - 0.75 * hours_ago) ** 3 + 4 * shake - 1))
    working = 6 if waiting else round(3 + 3 * shake)
    return waiting, working, min(4, working)


def idle_scene() -> Scene:
    scene = Scene()
    scene.board.recent = tuple(attempt(row["video_id"], 45 + 7 * n) for n, row in enumerate(RECENT[:3]))
    scene.remember(lambda age: (0, 0, 0) if age < 0.7 else _tide(age))
    return scene


def busy_scene() -> Scene:
    scene = Scene()
    scene.board.slots = (
        busy(0, 4715, 31.6, chunk=15, remaining_seconds=702.0, speed=3.4),
        busy(1, 4716, 88.2, chunk=37, remaining_seconds=64.0, speed=4.1, tenant_id=3),
        busy(2, 4715, 62.0, chunk=17, role="assist", step="assist chunk 17", speed=3.2, remaining_seconds=7.0),
        busy(3, 4717, 2.0, chunk=None, step="probe", speed=None, remaining_seconds=None, elapsed_seconds=3.0),
    )
    scene.board.backlog, scene.board.oldest_due_seconds = {"UPLOADED": 7, "PROCESSING": 6}, 534.0
    scene.board.recent = (running(4717, 0), *RECENT)
    elsewhere = ["enc-2:0:911", "enc-2:1:912", "enc-2:3:913", "enc-3:0:700"]
    held = {15: ("enc-1:0:4100", False), 16: ("enc-2:1:912", True), 17: ("enc-1:2:4102", True)}
    scene.board.at_work = AtWork(
        ["enc-1:0:4100", "enc-1:1:4101", "enc-1:2:4102", "enc-1:3:4103", *elsewhere],
        {"enc-1": 3.0, "enc-2": 41.0, "enc-3": 840.0, "enc-4": 1310.0},
        [
            {"video_id": 4715, "tenant_id": 12, "owner": "enc-1:0:4100", "chunks": chunks(52, 15, held)},
            {"video_id": 4716, "tenant_id": 3, "owner": "enc-1:1:4101", "chunks": chunks(41, 37, {})},
        ],
    )
    scene.remember(_tide)
    return scene


def draining_scene() -> Scene:
    """EC2 takes the host away."""
    scene = busy_scene()
    scene.board.notice = notice(Seen("terminate", "2026-11-25T10:02:00Z"), drain_on_rebalance=False)
    scene.board.protected = True
    leaving = {"state": "draining", "since_seconds": 21.0, "leaves_in_seconds": 69.0}
    stopped = SlotView(3, "stopped", None, 20.0, 0, None, None, "", None, None)
    working = [SlotView(**{**vars(slot), **leaving}) for slot in scene.board.slots[:3]]
    scene.board.slots, scene.board.draining = (*working, stopped), True
    return scene


def broken_scene() -> Scene:
    """PostgreSQL has been away for four minutes; encodes go on."""
    scene = busy_scene()
    scene.now -= 240
    down = Unavailable("postgres", "PostgreSQL: connection refused at 10.0.3.7:5432", hint="Encoding goes on.")
    scene.dependencies.lost("reconcile", "postgres", down)
    scene.dependencies.seen_by_child("slot 1", {"postgres": False})
    scene.now += 240
    scene.board.learnt_at = scene.board.seen_at = scene.now - 252
    scene.board.sandbox = {**CAGE, "landlock": False}
    scene.board.slots = (*scene.board.slots[:3], SlotView(3, "backoff", None, 6.0, 4, None, None, "", None, None))
    scene.remember(lambda age: (None, None, 3) if age < 4 / 60 + 0.01 else _tide(age))
    return scene


SCENES = {"idle": idle_scene, "busy": busy_scene, "draining": draining_scene, "broken": broken_scene}


@contextmanager
def served(scene: Scene, media_base_url: str = "") -> Iterator[str]:
    """The page over the scene; its address."""
    pages = Pages(
        metrics=bytes,
        metrics_type="text/plain",
        stuck=str,
        unready=list,
        status=lambda: page(scene.board, scene.dependencies, scene.now, host=HERE, media_base_url=media_base_url),
        media_origin=media_origin(media_base_url),
    )
    web = Web("127.0.0.1", 0, pages, {})
    web.start()
    until(lambda: web.port, "the server")
    try:
        yield f"http://127.0.0.1:{web.port}/"
    finally:
        web.stop(10)
