"""Rows whose owner is dead go back to the queue: observe → decide → act.

A lease that ended is judged by the statement itself. A missing heartbeat is judged here, on positive evidence only, and
the statement that acts on it looks once more: it carries the tokens just read and the witness.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from appliance.adapters.postgres.sweeps import Held, Reclaimed, Ring, Sweeps
from appliance.adapters.redis import Telemetry
from appliance.adapters.sqs import Doorbell
from appliance.domain.errors import Unavailable
from appliance.domain.message import Message
from appliance.domain.video import Status


@dataclass(frozen=True)
class Rules:
    """`batch` bounds each statement; `strict` drops witness and amnesty."""

    heartbeat_ttl_seconds: float
    first_ring_seconds: float
    batch: int
    strict: bool = False

    @property
    def witness_seconds(self) -> float | None:
        return None if self.strict else self.heartbeat_ttl_seconds


@dataclass
class Report:
    """What one pass did. Swept rows are in neither `reclaimed` nor `enqueued`; dry-run: what it would have done."""

    reclaimed: int = 0
    enqueued: int = 0
    swept: int = 0
    ring_errors: int = 0
    by_reason: dict[str, int] = field(default_factory=lambda: {"lease": 0, "heartbeat": 0})
    lines: list[str] = field(default_factory=list)
    #: Redis: nobody was judged by heartbeat in this pass. SQS: rows were not rung and stay due.
    errors: list[Unavailable] = field(default_factory=list)


def missing(held: Held, heartbeat: str | None, *, amnesty: bool, rules: Rules) -> bool:
    """Whether Redis's answer for this row is evidence that its owner is dead.

    A row with no `renewed_at` is not one of ours: nobody promised a token in its heartbeat, so only an absent key
    counts, and neither witness nor amnesty speaks for it.
    """
    if held.tenant_id is None:
        return False
    if held.renewed_seconds_ago is None:
        return heartbeat is None
    if heartbeat is not None and _token(heartbeat) in (None, held.token):
        return False
    if rules.strict:
        return True
    return not amnesty and held.renewed_seconds_ago > rules.heartbeat_ttl_seconds


def _token(heartbeat: str) -> UUID | None:
    """The token that beats, or None when the value names none (a bare `1` is a heartbeat of the system before)."""
    try:
        return UUID(json.loads(heartbeat)["token"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def reconcile_once(
    sweeps: Sweeps,
    telemetry: Telemetry,
    doorbell: Doorbell,
    rules: Rules,
    *,
    dry_run: bool = False,
    nothing: bool = False,
) -> Report:
    """One pass. Raises Unavailable("postgres"); what Redis or SQS did not answer is in the report.

    `nothing`: no row is UPLOADED or PROCESSING, so there is only Redis to ask whether it answers.

    Ten of these at once are harmless: every write proves its own case (F15).
    """
    report = Report()
    if nothing:
        _amnesty(telemetry, rules, report)
    elif dry_run:
        _look(sweeps, telemetry, rules, report)
    else:
        rows = _reclaim(sweeps, telemetry, rules, report)
        rung = _ring_reclaimed(doorbell, rows, report)
        _sweep(sweeps, doorbell, rules, rung, report)
    tail = " (dry-run)" if dry_run else ""
    report.lines.append(f"Done: reclaimed={report.reclaimed} enqueued={report.enqueued}{tail}")
    return report


def _look(sweeps: Sweeps, telemetry: Telemetry, rules: Rules, report: Report) -> None:
    """Dry-run: print both kinds of evidence for each row, write nowhere."""
    for page, silent in _pages(sweeps, telemetry, rules, report):
        for held in page:
            no_heartbeat = held.video_id in silent
            if not held.lease_expired and not no_heartbeat:
                continue
            report.reclaimed += 1
            report.by_reason["lease" if held.lease_expired else "heartbeat"] += 1
            report.lines.append(
                f"DRY-RUN reclaim | {_who(held.video_id, held.tenant_id, held.leased_by, held.leased_until)} "
                f"lease_expired={held.lease_expired} no_heartbeat={no_heartbeat} "
                f"force={held.lease_expired or no_heartbeat}"
            )


def _reclaim(sweeps: Sweeps, telemetry: Telemetry, rules: Rules, report: Report) -> list[Reclaimed]:
    by_lease = list(sweeps.reclaim_expired(rules.batch))
    by_heartbeat: list[Reclaimed] = []
    for page, silent in _pages(sweeps, telemetry, rules, report):
        suspects = [held for held in page if held.video_id in silent]
        if suspects:
            by_heartbeat += sweeps.reclaim_silent(suspects, rules.witness_seconds)
    report.by_reason = {"lease": len(by_lease), "heartbeat": len(by_heartbeat)}
    report.reclaimed = len(by_lease) + len(by_heartbeat)
    return by_lease + by_heartbeat


def _pages(sweeps: Sweeps, telemetry: Telemetry, rules: Rules, report: Report) -> Iterator[tuple[list[Held], set[int]]]:
    """(rows, ids of those whose heartbeat is missing), page by page. Once Redis fails, nobody is missing (F22)."""
    amnesty = _amnesty(telemetry, rules, report)
    after_id = 0
    while page := sweeps.processing_page(after_id, rules.batch):
        silent: set[int] = set()
        if amnesty is not None and not report.errors:
            try:
                silent = _silent(telemetry, page, amnesty=amnesty, rules=rules)
            except Unavailable as error:
                report.errors.append(error)
        yield page, silent
        after_id = page[-1].video_id


def _amnesty(telemetry: Telemetry, rules: Rules, report: Report) -> bool | None:
    """Whether Redis started too recently to have heard everybody; None: it does not answer."""
    try:
        return bool(telemetry.up_seconds() < 2 * rules.heartbeat_ttl_seconds)
    except Unavailable as error:
        report.errors.append(error)
        return None


def _silent(telemetry: Telemetry, page: list[Held], *, amnesty: bool, rules: Rules) -> set[int]:
    keys = {held.video_id: (held.tenant_id, held.video_id) for held in page if held.tenant_id is not None}
    answers = dict(zip(keys, telemetry.heartbeats(list(keys.values())), strict=True)) if keys else {}
    return {
        held.video_id
        for held in page
        if held.video_id in keys and missing(held, answers[held.video_id], amnesty=amnesty, rules=rules)
    }


def _ring_reclaimed(doorbell: Doorbell, rows: list[Reclaimed], report: Report) -> set[int]:
    """Log every reclaimed row and ring those that are to be tried again; returns the ids that were rung."""
    log, rung = structlog.get_logger(), set()
    for row in rows:
        who = {"video_id": row.video_id, "tenant_id": row.tenant_id}
        log.warning("RECLAIMED", **who, prev_leased_by=row.prev_leased_by, prev_leased_until=str(row.prev_leased_until))
        line = _who(row.video_id, row.tenant_id, row.prev_leased_by, row.prev_leased_until)
        report.lines.append(f"RECLAIMED | {line}")
        if row.status == Status.UPLOADED and _ring(doorbell, row, 1, report):
            rung.add(row.video_id)
            report.enqueued += 1
            log.info("RE_ENQUEUED", **who)
            report.lines.append(f"RE_ENQUEUED | video_id={row.video_id}")
    return rung


def _sweep(sweeps: Sweeps, doorbell: Doorbell, rules: Rules, rung: set[int], report: Report) -> None:
    """Ring what is due. The statement has noted the ring already; one that failed is due again.

    A row reclaimed in this pass is due as well: it has been rung and only needed the note.
    """
    failed = []
    for ring in sweeps.due_rings(rules.batch, rules.first_ring_seconds):
        if ring.video_id in rung:
            continue
        if _ring(doorbell, ring, ring.ring_count, report):
            report.swept += 1
        else:
            failed.append(ring.video_id)
    if failed:
        sweeps.ring_failed(failed)


def _ring(doorbell: Doorbell, row: Reclaimed | Ring, attempt: int, report: Report) -> bool:
    # After one send that was not answered the rest would only wait for the same: they stay due.
    if report.ring_errors:
        report.ring_errors += 1
        return False
    try:
        doorbell.ring(Message(row.video_id, row.tenant_id, row.file_key, attempt=attempt))
    except Unavailable as error:
        report.ring_errors += 1
        report.errors.append(error)
        return False
    return True


def _who(video_id: int, tenant_id: int | None, leased_by: str | None, leased_until: object) -> str:
    owner = f"prev_leased_by={leased_by or ''} prev_leased_until={leased_until}"
    return f"video_id={video_id} tenant_id={tenant_id} {owner}"
