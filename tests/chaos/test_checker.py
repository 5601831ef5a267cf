"""The checker finds what it is there to find: a clean history with one thing wrong in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.checker import Killed, check
from tests.chaos.history import PLATFORM, History, Version

START = datetime(2025, 1, 1, tzinfo=UTC)
OURS = "video-appliance encoder 0"
A, B = "aaaaaaaa-0000-0000-0000-000000000000", "bbbbbbbb-0000-0000-0000-000000000000"


def video(status: str, *, epoch: int = 0, token: str | None = None, **changes: Any) -> dict[str, Any]:
    row = {"id": 1, "status": status, "lease_epoch": epoch, "lease_token": token, "hls_path": "", "loss_count": 0}
    row |= {"error_code": None, "error_reason": "", "cancel_requested_at": None}
    return {**row, "finished_token": None, "finished_epoch": 0, **changes}


def attempt(token: str, outcome: str | None) -> dict[str, Any]:
    return {"token": token, "video_id": 1, "outcome": outcome, "ended_at": outcome and "2025-01-01T00:00:09Z"}


def chunk(state: str, token: str | None, attempts: int) -> dict[str, Any]:
    return {"video_id": 1, "plan": "p", "number": 1, "state": state, "token": token, "attempts": attempts}


READY = {"hls_path": f"hls/1/2-{B}/master.m3u8", "finished_token": B, "finished_epoch": 2}
#: Submitted, claimed by A, lost, claimed by B, READY.
VIDEO = [
    video("UPLOADED"),
    video("PROCESSING", epoch=1, token=A),
    video("UPLOADED", epoch=1, loss_count=1),
    video("PROCESSING", epoch=2, token=B),
    video("READY", epoch=2, **READY),
]
ATTEMPTS = [attempt(A, None), attempt(A, "abandoned"), attempt(B, None), attempt(B, "ready")]
CHUNKS = [chunk("TODO", None, 0), chunk("RUNNING", A, 1), chunk("RUNNING", B, 2), chunk("DONE", B, 2)]
Rows = dict[str, list[dict[str, Any]]]
CLEAN: Rows = {"video": VIDEO, "video_attempt": ATTEMPTS, "video_chunk": CHUNKS}


def history(rows: Rows) -> History:
    made = History()
    for relation, versions in rows.items():
        for number, row in enumerate(versions):
            platform = relation == "video" and row["status"] == "UPLOADED" and not row["loss_count"]
            made.add(relation, Version(START + timedelta(seconds=number), PLATFORM if platform else OURS, row))
    return made


def rules(rows: Rows) -> set[str]:
    report = check(history(rows), submitted={1}, max_losses=3, killed=[])
    return {violation.rule for violation in report.violations}


def test_a_takeover_is_clean_and_measured() -> None:
    killed = [Killed(1, 1, START + timedelta(seconds=1.5))]
    report = check(history(CLEAN), submitted={1}, max_losses=3, killed=killed)
    assert report.violations == []
    assert (report.given_back, report.taken_over) == ([0.5], [1.5])
    assert (report.chunks_begun, report.chunks_done, report.chunks_thrown_away) == (2, 1, 0)
    assert dict(report.attempts) == {"abandoned": 1, "ready": 1}


def set_last(relation: str, **changes: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[relation][-1].update(changes)


def put(relation: str, index: int, row: dict[str, Any]) -> Callable[[Rows], None]:
    return lambda rows: rows[relation].insert(index, row)


AGAIN = [video("PROCESSING", epoch=3, token=A, **READY), video("READY", epoch=3, **READY)]
PLANTED: dict[str, tuple[str, Callable[[Rows], None]]] = {
    "never finished": ("lost", lambda rows: rows["video"].pop()),
    "no row": ("lost", lambda rows: rows["video"].clear()),
    "rejected": ("lost", set_last("video", status="FAILED", error_code="not_media")),
    "cancelled by nobody": ("lost", set_last("video", status="FAILED", error_code="cancelled")),
    "given up too early": ("lost", set_last("video", status="FAILED", error_code="crashed_encoder")),
    "published twice": ("doubled", lambda rows: rows["video"].extend(AGAIN)),
    "another path": ("doubled", put("video", 5, video("READY", epoch=2, **{**READY, "hls_path": "x"}))),
    "READY without a claim": ("edge", lambda rows: rows["video"].pop(3)),
    "re-submitted by ourselves": ("edge", put("video", 5, video("UPLOADED", epoch=2, loss_count=1, **READY))),
    "epoch jumps": ("epoch", lambda rows: rows["video"][3].update(lease_epoch=3)),
    "epoch goes back": ("epoch", put("video", 4, video("PROCESSING", epoch=1, token=B))),
    "changes hands without a claim": ("token", put("video", 4, video("PROCESSING", epoch=2, token=A))),
    "token in READY": ("token", set_last("video", lease_token=B)),
    "completed by a zombie": ("ready", set_last("video", finished_token=A)),
    "the zombie's playlists": ("ready", set_last("video", hls_path=f"hls/1/1-{A}/master.m3u8")),
    "attempt left open": ("attempt", lambda rows: rows["video_attempt"].pop(1)),
    "attempt closed twice": ("attempt", put("video_attempt", 2, attempt(A, "released"))),
    "attempt ends otherwise": ("attempt", set_last("video_attempt", outcome="failed")),
    "chunk done by a zombie": ("chunk", set_last("video_chunk", token=A)),
    "chunk done twice": ("chunk", put("video_chunk", 4, chunk("DONE", B, 2) | {"attempts": 3})),
    "chunk done without being begun": ("chunk", lambda rows: rows.update(video_chunk=[CHUNKS[0], CHUNKS[3]])),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name: str) -> None:
    rule, plant = PLANTED[name]
    rows = copy.deepcopy(CLEAN)
    plant(rows)
    assert rule in rules(rows)


def test_what_the_run_itself_asked_for_is_no_loss() -> None:
    marked = video("PROCESSING", epoch=2, token=B, cancel_requested_at="2025-01-01T00:00:03Z")
    cancelled = [*VIDEO[:4], marked, video("FAILED", epoch=2, error_code="cancelled")]
    attempts = [*ATTEMPTS[:3], attempt(B, "cancelled")]
    assert rules({"video": cancelled, "video_attempt": attempts}) == set()
    worn_out = [*VIDEO[:3], video("PROCESSING", epoch=2, token=B, loss_count=2)]
    worn_out += [video("FAILED", epoch=2, error_code="crashed_encoder")]
    assert rules({"video": worn_out, "video_attempt": [*ATTEMPTS[:3], attempt(B, "abandoned")]}) == set()
