"""The supervisor's one registry: counted by the children's events and by our threads, gauges from the board.

Every family and every label value is declared here and starts at 0, so that a rate over a first failure is right and
no video or tenant can become a label.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

from appliance import __version__
from appliance.adapters.prometheus import Family, Histogram, exposition
from appliance.domain.errors import CLASSES, ERROR_CODES, class_of
from appliance.domain.events import STEPS, ChunkEnded, Claimed, Counted, Event, Settled
from appliance.domain.message import Outcome
from appliance.domain.notice import Kind
from appliance.supervisor.board import Board
from appliance.supervisor.capacity import Scratch
from appliance.supervisor.dependencies import DEPENDENCIES, Dependencies
from appliance.supervisor.pool import REASONS, State

PREFIX = "video_appliance_"
#: Stands in for a label value that nobody declared; seeing it means that this file is behind.
OTHER = "other"
#: ChunkEnded's outcome when the announced claim took no chunk.
NO_CHUNK = "none"

QUEUE_WAIT_BOUNDS = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
SPEED_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
DURATION_BOUNDS = (5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)


@dataclass(frozen=True)
class Counter:
    """Exposed as `video_appliance_{name}_total`; `labels`: name → every value it may have."""

    help: str
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def known(self, values: tuple[str | None, ...]) -> tuple[str, ...]:
        """These label values, each undeclared one as `other`."""
        allowed = self.labels.values()
        return tuple(value if value in them else OTHER for value, them in zip(values, allowed, strict=True))


COUNTERS: dict[str, Counter] = {
    "jobs": Counter("Jobs that ended, by outcome.", {"outcome": tuple(Outcome)}),
    "job_failures": Counter("Jobs that failed, by the error code of the row.", {"code": tuple(ERROR_CODES)}),
    "stage_failures": Counter("Jobs that failed, by step and remedy.", {"stage": STEPS, "class": CLASSES}),
    "stage_seconds": Counter("Wall time of jobs, by step.", {"stage": STEPS}),
    "media_seconds": Counter("Seconds of video and audio made ready."),
    "input_bytes": Counter("Bytes of sources fetched."),
    "output_bytes": Counter("Bytes of finished streams."),
    "chunks": Counter(
        "Chunks by how they ended.", {"outcome": ("encoded", "assisted", "resumed", "redone", "released", "lost")}
    ),
    "lease_renewals": Counter("Lease renewals that succeeded."),
    "lease_losses": Counter("Leases found to be somebody else's."),
    "stale_writes_rejected": Counter("Ownership writes that changed no row because the token was not current."),
    "reclaims": Counter("Rows taken from dead owners, by evidence.", {"reason": ("lease", "heartbeat", "abandoned")}),
    "rings": Counter("Messages sent, by reason.", {"reason": ("reclaim", "sweep", "abandoned", "release")}),
    "ring_errors": Counter("Messages that could not be sent; the sweep sends them again."),
    "unreadable_messages": Counter("Messages that were not ours to read."),
    "media_swept_objects": Counter("Objects in storage that nothing named any more and that were deleted."),
    "slot_restarts": Counter("Encoder processes that ended and were replaced, by reason.", {"reason": REASONS}),
    "reconcile_runs": Counter("Reconcile ticks, by result.", {"result": ("done", "not_our_tick", "waiting", "failed")}),
    "dependency_errors": Counter("Calls that a dependency did not answer.", {"dependency": DEPENDENCIES}),
    "events_dropped": Counter("Events of encoders that did not fit into their pipe or could not be read."),
}
HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "job_duration_seconds": ("Wall time of jobs that made a video ready.", DURATION_BOUNDS),
    "job_speed_ratio": ("Seconds of media per second of wall time, of jobs that made a video ready.", SPEED_BOUNDS),
    "queue_wait_seconds": ("Time a video waited, due, before it was claimed.", QUEUE_WAIT_BOUNDS),
}


class Metrics:
    """Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[tuple[str, ...], float | Histogram]] = {
            name: dict.fromkeys(product(*counter.labels.values()), 0.0) for name, counter in COUNTERS.items()
        }
        self._histograms = {name: Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}

    def count(self, name: str, *labels: str | None, amount: float = 1.0) -> None:
        """Add to a counter of COUNTERS. An undeclared label value counts as `other`."""
        known = COUNTERS[name].known(labels)
        with self._lock:
            before = self._counts[name].get(known, 0.0)
            assert isinstance(before, float)
            self._counts[name][known] = before + amount

    def value(self, name: str, *labels: str) -> float:
        """What a counter stands at."""
        with self._lock:
            value = self._counts[name][labels]
        assert isinstance(value, float)
        return value

    def observe(self, name: str, value: float) -> None:
        with self._lock:
            self._histograms[name].observe(value)

    def heard(self, event: Event) -> None:
        """Count what a child said. A counter this release does not know is counted as a dropped event."""
        match event:
            case Claimed(waited_seconds=waited):
                self.observe("queue_wait_seconds", waited)
            case Settled():
                self._settled(event)
            case ChunkEnded(outcome=outcome) if outcome != NO_CHUNK:
                self.count("chunks", outcome)
            case Counted(metric=metric, amount=amount, labels=labels) if _fits(metric, labels):
                self.count(metric, *labels, amount=amount)
            case Counted():
                self.count("events_dropped")

    def _settled(self, event: Settled) -> None:
        self.count("jobs", event.outcome)
        for outcome in ("resumed", "redone"):
            self.count("chunks", outcome, amount=_figure(event.receipt, f"chunks_{outcome}"))
        self.count("input_bytes", amount=_figure(event.receipt, "bytes_in"))
        spent = event.receipt.get("step_seconds")
        for step, seconds in spent.items() if isinstance(spent, dict) else ():
            self.count("stage_seconds", step, amount=seconds)
        if event.outcome == Outcome.FAILED:
            self.count("job_failures", event.error_code)
            self.count("stage_failures", event.step, class_of(event.error_code))
        if event.outcome == Outcome.LOST:
            self.count("lease_losses")
        if event.outcome == Outcome.OK:
            self.count("media_seconds", amount=_figure(event.receipt, "media_seconds"))
            self.count("output_bytes", amount=_figure(event.receipt, "bytes_out"))
            self._timed(_figure(event.receipt, "wall_seconds"), _figure(event.receipt, "media_seconds"))

    def _timed(self, wall_seconds: float, media_seconds: float) -> None:
        self.observe("job_duration_seconds", wall_seconds)
        if wall_seconds > 0:
            self.observe("job_speed_ratio", media_seconds / wall_seconds)

    def scrape(self, board: Board, dependencies: Dependencies, scratch: Scratch | None = None) -> bytes:
        """The body of /metrics."""
        with self._lock:
            counted = [
                Family("counter", PREFIX + name, COUNTERS[name].help, tuple(COUNTERS[name].labels), dict(samples))
                for name, samples in self._counts.items()
            ]
            timed = [
                Family("histogram", PREFIX + name, HISTOGRAMS[name][0], (), {(): histogram.copy()})
                for name, histogram in self._histograms.items()
            ]
        return exposition([*counted, *timed, *_gauges(board), *_room(scratch), _up(dependencies)])


def _gauges(board: Board) -> list[Family]:
    """What is known now. What was never learnt (no database yet) is left out rather than said to be 0."""
    states = dict.fromkeys(map(str, State), 0.0)
    for slot in board.slots:
        states[slot.state] += 1
    gauges = [
        _gauge("build_info", "The running release.", "version", {__version__: 1.0}),
        _gauge("slots", "Encoder slots by state.", "state", states),
        _gauge("draining", "1 while the supervisor is leaving.", "", {"": float(board.draining)}),
        *_of_the_fleet(board),
        _gauge(
            "heartbeat_age_seconds",
            "Since the slot's encoder renewed the lease of its video; 0 while it owns none.",
            "slot",
            {str(slot.slot): slot.heartbeat_age_seconds or 0.0 for slot in board.slots},
        ),
    ]
    if board.sandbox:
        layers = {name: float(holds) for name, holds in board.sandbox.items()}
        gauges.append(_gauge("sandbox_layer", "1 if this layer of ffmpeg's cage holds here.", "layer", layers))
    if board.backlog is not None:
        videos = {status: float(number) for status, number in board.backlog.items()}
        gauges += [
            _gauge("backlog_videos", "Videos that wait or are worked on, by status.", "status", videos),
            _gauge(
                "oldest_pending_seconds",
                "How long the oldest due video has waited; 0 when none waits.",
                "",
                {"": board.oldest_due_seconds or 0.0},
            ),
        ]
    if board.reconciled_at is not None:
        name, text = "reconcile_last_success_timestamp_seconds", "Unix time of this host's last complete tick."
        gauges.append(_gauge(name, text, "", {"": board.reconciled_at}))
    return gauges


def _of_the_fleet(board: Board) -> list[Family]:
    kind = board.notice.kind if board.notice else None
    away, may_go = kind in (Kind.SPOT, Kind.TERMINATION), kind is Kind.REBALANCE
    gauges = [
        _gauge("spot_notice", "1 once EC2 has said that it takes this host away.", "", {"": float(away)}),
        _gauge("rebalance_notice", "1 while EC2 says that it may soon take this host away.", "", {"": float(may_go)}),
    ]
    if board.protected is not None:
        text = "1 while the Auto Scaling group may not choose this host for a scale-in."
        gauges.append(_gauge("scale_in_protected", text, "", {"": float(board.protected)}))
    return gauges


def _room(scratch: Scratch | None) -> list[Family]:
    if scratch is None:
        return []
    return [
        _gauge("scratch_used_bytes", "Sources, rooms and caches of this host.", "", {"": float(scratch.used_bytes)}),
        _gauge("scratch_free_bytes", "Free on the disk they lie on.", "", {"": float(scratch.free_bytes)}),
    ]


def _up(dependencies: Dependencies) -> Family:
    up = {name: float(seconds is None) for name, seconds in dependencies.down_seconds().items()}
    return _gauge("dependency_up", "0 while somebody on this host has no answer from it.", "dependency", up)


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Family:
    samples: dict[tuple[str, ...], float | Histogram] = {
        (value,) if label else (): number for value, number in values.items()
    }
    return Family("gauge", PREFIX + name, text, _labels(label), samples)


def _labels(label: str) -> tuple[str, ...]:
    return (label,) if label else ()


def _fits(metric: str, labels: tuple[str, ...]) -> bool:
    """Whether this release knows such a counter."""
    return metric in COUNTERS and len(labels) == len(COUNTERS[metric].labels)


def _figure(receipt: dict[str, object], name: str) -> float:
    value = receipt.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0
