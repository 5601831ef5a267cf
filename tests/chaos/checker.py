"""What must be true of every row's history, however the run went: pure functions, (history) → violations."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from appliance.domain.video import TRANSITIONS, Status
from tests.chaos.history import PLATFORM, History, Version

#: How an attempt may end, by the edge that its video took in the same statement.
OUTCOMES = {
    "READY": {"ready"},
    "FAILED": {"failed", "cancelled", "abandoned", "reclaimed"},
    "UPLOADED": {"retried", "released", "abandoned", "reclaimed"},
}
#: FAILED is no loss for these causes, each proven below.
ALLOWED = ("cancelled", "crashed_encoder")


@dataclass(frozen=True)
class Violation:
    rule: str
    sentence: str


@dataclass
class Killed:
    """An encoder that was killed while it held a video, on a host that went on living."""

    video_id: int
    epoch: int
    at: datetime


@dataclass
class Report:
    """What the rows say of the run."""

    violations: list[Violation] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    #: Seconds from a kill to the row's way back, and to the next claim.
    given_back: list[float] = field(default_factory=list)
    taken_over: list[float] = field(default_factory=list)
    chunks_begun: int = 0
    chunks_done: int = 0
    chunks_thrown_away: int = 0


def check(history: History, *, submitted: set[int], max_losses: int, killed: list[Killed]) -> Report:
    """Every rule on every row."""
    report = Report()
    found = report.violations
    found += not_lost(history, submitted, max_losses)
    for video_id, versions in history.videos.items():
        found += [Violation(rule, f"video {video_id}: {text}") for rule, text in legal_video(versions)]
        found += [Violation("doubled", f"video {video_id}: {text}") for text in not_doubled(versions)]
        report.outcomes[versions[-1].row["status"]] += 1
    for token, versions in history.attempts.items():
        found += [Violation("attempt", f"attempt {token}: {text}") for text in legal_attempt(versions, history)]
        report.attempts[versions[-1].row["outcome"] or "open"] += 1
    for name, versions in history.chunks.items():
        found += [Violation("chunk", f"chunk {name}: {text}") for text in legal_chunk(versions)]
        _count_chunk(report, versions)
    for kill in killed:
        measure(report, history.videos[kill.video_id], kill)
    return report


def not_lost(history: History, submitted: set[int], max_losses: int) -> Iterator[Violation]:
    """Every submitted video is READY, or FAILED for a cause that the run itself made."""
    for video_id in sorted(submitted):
        versions = history.videos.get(video_id)
        if not versions:
            yield Violation("lost", f"video {video_id}: it has no row")
            continue
        row = versions[-1].row
        if row["status"] == "READY":
            continue
        if row["status"] != "FAILED" or row["error_code"] not in ALLOWED:
            yield Violation(
                "lost", f"video {video_id}: {row['status']} {row['error_code'] or ''} {row['error_reason']}"
            )
        elif row["error_code"] == "cancelled" and not _was_cancelled(versions):
            yield Violation("lost", f"video {video_id}: cancelled, and nobody had asked for it")
        elif row["error_code"] == "crashed_encoder" and max(v.row["loss_count"] for v in versions) < max_losses - 1:
            yield Violation("lost", f"video {video_id}: given up after fewer losses than allowed")


def _was_cancelled(versions: list[Version]) -> bool:
    """A mark on the row, or an end written by the platform itself, since the last submission."""
    since = max(i for i, version in enumerate(versions) if _submits(versions, i))
    last = versions[since:]
    return any(
        v.row["cancel_requested_at"] or (v.application == PLATFORM and v.row["status"] == "FAILED") for v in last
    )


def _submits(versions: list[Version], index: int) -> bool:
    """Whether this version is a submission: the first, or the platform's way back to UPLOADED."""
    before = versions[index - 1].row["status"] if index else None
    return index == 0 or (versions[index].row["status"] == "UPLOADED" and before in ("READY", "FAILED"))


def not_doubled(versions: list[Version]) -> Iterator[str]:
    """One READY for each submission, and hls_path changes only with it."""
    ready = 0
    for index, version in enumerate(versions):
        if _submits(versions, index):
            ready = 0
        before = versions[index - 1].row if index else version.row
        if before["status"] != "READY" and version.row["status"] == "READY":
            ready += 1
            if ready > 1:
                yield f"published {ready} times for one submission"
        elif before["hls_path"] != version.row["hls_path"]:
            yield f"hls_path changed without a READY, to {version.row['hls_path']}"


def legal_video(versions: list[Version]) -> Iterator[tuple[str, str]]:
    """(rule, sentence) for every step that no statement may take."""
    for before, after in pairwise(versions):
        old, new = before.row, after.row
        edge = (Status(old["status"]), Status(new["status"]))
        if edge[0] is not edge[1]:
            if edge not in TRANSITIONS:
                yield "edge", f"{edge[0]} → {edge[1]} at {after.at}"
            if edge[1] is Status.UPLOADED and edge[0] is not Status.PROCESSING and after.application != PLATFORM:
                yield "edge", f"re-submitted by {after.application}"
        claims = edge == (Status.UPLOADED, Status.PROCESSING)
        if new["lease_epoch"] != old["lease_epoch"] + claims:
            yield "epoch", f"{old['lease_epoch']} → {new['lease_epoch']} on {edge[0]} → {edge[1]}"
        if edge == (Status.PROCESSING, Status.PROCESSING) and new["lease_token"] != old["lease_token"]:
            yield "token", f"changed hands without a claim at {after.at}"
        if edge[1] is Status.READY and edge[0] is Status.PROCESSING:
            yield from _legal_ready(old, new)
    for version in versions:
        held = version.row["lease_token"] is not None
        if held != (version.row["status"] == "PROCESSING"):
            yield "token", f"{version.row['status']} with token {version.row['lease_token']}"


def _legal_ready(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if (new["finished_token"], new["finished_epoch"]) != (old["lease_token"], old["lease_epoch"]):
        yield "ready", "completed by somebody who did not hold it"
    if f"/{old['lease_epoch']}-{old['lease_token']}/" not in f"/{new['hls_path']}":
        yield "ready", f"hls_path {new['hls_path']} is not the holder's"


def legal_attempt(versions: list[Version], history: History) -> Iterator[str]:
    """Opened once, closed exactly once, never touched again, and closed as its video moved."""
    first, last = versions[0].row, versions[-1].row
    if first["ended_at"] is not None:
        yield "was born closed"
    if last["ended_at"] is None:
        yield "is still open"
    if len(versions) > 2:
        yield f"was written {len(versions)} times"
    if last["outcome"] == "superseded":
        yield "was superseded, and nobody moved rows by hand"
        return
    for before, after in pairwise(history.videos[first["video_id"]]):
        if before.row["lease_token"] == first["token"] != after.row["lease_token"]:
            if last["outcome"] not in OUTCOMES.get(after.row["status"], set()):
                yield f"ended {last['outcome']}, and its video went to {after.row['status']}"
            return
    if last["ended_at"] is not None:
        yield "ended, and its video never left it"


def legal_chunk(versions: list[Version]) -> Iterator[str]:
    """TODO → RUNNING → DONE by the same token; back only by a release, an abandon or a redo."""
    edges = {("TODO", "RUNNING"), ("RUNNING", "RUNNING"), ("RUNNING", "DONE"), ("RUNNING", "TODO"), ("DONE", "TODO")}
    for before, after in pairwise(versions):
        old, new = before.row, after.row
        if new.get("deleted"):
            continue
        if (old["state"], new["state"]) not in edges:
            yield f"{old['state']} → {new['state']}"
        if (old["state"], new["state"]) == ("RUNNING", "DONE") and old["token"] != new["token"]:
            yield "finished by somebody who did not hold it"
        begun = new["state"] == "RUNNING" and new["token"] != old["token"]
        # a claim whose answer was lost is asked again under its token, and counted again
        if new["attempts"] - old["attempts"] not in ((1,) if begun else (0, 1)):
            yield f"attempts {old['attempts']} → {new['attempts']}"


def _count_chunk(report: Report, versions: list[Version]) -> None:
    report.chunks_begun += versions[-1].row["attempts"]
    for before, after in pairwise(versions):
        report.chunks_done += after.row["state"] == "DONE" != before.row["state"]
        report.chunks_thrown_away += before.row["state"] == "DONE" and after.row["state"] == "TODO"


def measure(report: Report, versions: list[Version], kill: Killed) -> None:
    """How long the killed owner's video lay idle."""
    for before, after in pairwise(versions):
        seconds = (after.at - kill.at).total_seconds()
        if seconds < 0 or before.row["lease_epoch"] != kill.epoch:
            continue
        if (before.row["status"], after.row["status"]) == ("PROCESSING", "UPLOADED"):
            report.given_back.append(seconds)
        elif after.row["lease_epoch"] == kill.epoch + 1:
            report.taken_over.append(seconds)


def median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None
