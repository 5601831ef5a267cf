"""The tick: a thread with its own connections that reconciles, learns the backlog, and publishes it.

Every supervisor ticks; one conditional UPDATE decides whose tick reconciles. That only saves work: nothing here becomes
wrong when all of them reconcile at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.sweeps import Sweeps, Tick
from appliance.adapters.redis import Telemetry
from appliance.adapters.sqs import Depth, Doorbell
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.domain.fleet import backlog_count, published
from appliance.supervisor.board import Board
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.fleet import Director
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.reconcile import Report, Rules, reconcile_once

OBSERVER = "reconcile"


@dataclass(frozen=True)
class Settings:
    """`publish_seconds`: how often the fleet publishes its backlog."""

    host: str
    tick_seconds: float
    renew_seconds: float
    publish_seconds: float = 60.0


def quiet_seconds(tick: Tick, answering_seconds: float, settings: Settings) -> float:
    """How long to wait before anybody is reclaimed: holders renew first (F24).

    After an outage the server is young, or it has answered this process for a moment only, or nobody ticked for long.
    """
    waits: list[float] = [settings.renew_seconds - tick.server_up_seconds, settings.renew_seconds - answering_seconds]
    if tick.since_last_seconds is None or tick.since_last_seconds > settings.tick_seconds + settings.renew_seconds:
        waits.append(settings.renew_seconds)
    return max(0.0, *waits)


def publishes(tick: Tick, period_seconds: float) -> bool:
    """Whether a period began since the last tick, on the server's clock: so one host publishes in each period."""
    if tick.since_last_seconds is None:
        return True
    now, last = tick.server_up_seconds, tick.server_up_seconds - tick.since_last_seconds
    return bool(now // period_seconds != last // period_seconds)


class Ticker:
    """`sweeps`, `reports`, `telemetry`, `doorbell`, `cloudwatch`, `director` (None: off) are this thread's own.

    `slots` tells how many encoders this host has now.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        *,
        sweeps: Sweeps,
        reports: Reports,
        telemetry: Telemetry,
        doorbell: Doorbell,
        cloudwatch: CloudWatch | None,
        director: Director | None = None,
        board: Board,
        dependencies: Dependencies,
        metrics: Metrics,
        slots: Callable[[], int],
    ) -> None:
        self._settings, self._rules = settings, rules
        self._sweeps, self._reports, self._telemetry = sweeps, reports, telemetry
        self._doorbell, self._cloudwatch, self._director = doorbell, cloudwatch, director
        self._board, self._dependencies, self._metrics, self._slots = board, dependencies, metrics, slots
        self._log = structlog.get_logger()
        self._answering_since: float | None = None
        self._assisting = 0
        self._quiet_until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        self._thread.join(seconds)

    def tick(self) -> str:
        """One tick; returns its `result` label. Never raises: the next tick comes whatever happened to this one."""
        try:
            result = self._tick()
        except Unavailable as error:
            if error.dependency == "postgres":
                self._answering_since = None
            result = "failed"
        except ApplianceError as error:
            self._log.error("RECONCILE_FAILED", error=error.sentence, hint=error.hint)
            result = "failed"
        except Exception:  # noqa: BLE001 - a mistake of ours must not end the thread that finds lost rows
            self._log.exception("RECONCILE_FAILED")
            result = "failed"
        self._metrics.count("reconcile_runs", result)
        return result

    def _run(self) -> None:
        while not self._stop.is_set():
            self.tick()
            self._stop.wait(self._settings.tick_seconds)

    def _tick(self) -> str:
        with self._dependencies.watched(OBSERVER, "postgres"):
            self._learn()
        # A supervisor that cannot ring takes no tick: another host's may be able to.
        with self._dependencies.watched(OBSERVER, "sqs"):
            depth = self._doorbell.depth()
        with self._dependencies.watched(OBSERVER, "postgres"):
            tick = self._sweeps.win_tick(self._settings.host, self._settings.tick_seconds)
        if not tick.won:
            self._board.reconciled_at = time.time()
            return "not_our_tick"
        minute = publishes(tick, self._settings.publish_seconds)
        if self._cloudwatch is not None and minute:
            self._publish(self._cloudwatch, depth)
        if self._waits(tick):
            return "waiting"
        self._reconcile()
        self._board.reconciled_at = time.time()
        if self._director is not None and minute:
            self._steer(self._director)
        return "done"

    def _learn(self) -> None:
        """The backlog, for /metrics and the page."""
        backlog = self._reports.backlog()
        if self._answering_since is None:
            self._answering_since = time.monotonic()
        self._board.backlog = dict(backlog.by_status)
        self._assisting = backlog.assisting
        self._board.oldest_due_seconds = backlog.oldest_due_seconds
        self._board.learnt_at = time.monotonic()

    def _waits(self, tick: Tick) -> bool:
        """After an outage this tick only stamps."""
        assert self._answering_since is not None
        now = time.monotonic()
        wait = quiet_seconds(tick, now - self._answering_since, self._settings)
        if wait and now >= self._quiet_until:
            self._log.info("RECONCILE_WAITS", seconds=round(wait, 1), why="holders renew first")
        self._quiet_until = max(self._quiet_until, now + wait)
        return self._quiet_until > now

    def _reconcile(self) -> None:
        with self._dependencies.watched(OBSERVER, "postgres"):
            nothing = not any((self._board.backlog or {"": 1}).values())
            report = reconcile_once(self._sweeps, self._telemetry, self._doorbell, self._rules, nothing=nothing)
        self._tell(report)

    def _tell(self, report: Report) -> None:
        for error in report.errors:
            self._dependencies.lost(OBSERVER, error.dependency, error)
        if not any(error.dependency == "redis" for error in report.errors):
            self._dependencies.answered(OBSERVER, "redis")
        for reason, number in report.by_reason.items():
            self._metrics.count("reclaims", reason, amount=number)
        self._metrics.count("rings", "reclaim", amount=report.enqueued)
        self._metrics.count("rings", "sweep", amount=report.swept)
        self._metrics.count("ring_errors", amount=report.ring_errors)

    def _publish(self, cloudwatch: CloudWatch, depth: Depth) -> None:
        """Real figures only: whatever could not be learnt has raised before this line."""
        assert self._board.backlog is not None
        with self._dependencies.watched(OBSERVER, "postgres"):
            failures = self._reports.failures(self._settings.publish_seconds)
        figures = published(
            self._board.backlog,
            assisting=self._assisting,
            oldest_due_seconds=self._board.oldest_due_seconds,
            failures=failures,
            visible=depth.visible,
            inflight=depth.inflight,
            slots_per_host=self._slots(),
        )
        try:
            with self._dependencies.watched(OBSERVER, "cloudwatch"):
                cloudwatch.put(figures)
        except Unavailable:
            return  # noted; the next period publishes again

    def _steer(self, director: Director) -> None:
        """On what was learnt in this tick; where anything is unknown nothing is scaled."""
        assert self._board.backlog is not None
        try:
            with self._dependencies.watched(OBSERVER, "autoscaling", "ssm"):
                director.steer(backlog_count(self._board.backlog), self._slots())
        except Unavailable:
            return  # noted; the next period decides again
