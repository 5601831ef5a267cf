"""When each alert fires and when it does not: input for `promtool test rules`, a row an alert.

Series are in promtool's notation (`0+2x30`: from 0, each minute 2 more, thirty times); samples are a minute apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOST = 'instance="a",job="video-appliance"'
PREFIX = "video_appliance_"


@dataclass(frozen=True)
class Case:
    """At minute `at`, `fires` raises the alert with these labels beside its own; `quiet` comes near and does not."""

    alert: str
    at: int
    fires: dict[str, str]
    quiet: dict[str, str]
    labels: str = ""


def series(name: str, labels: str = "") -> str:
    return f"{PREFIX}{name}{{{','.join(filter(None, (HOST, labels)))}}}"


def counted(alert: str, at: int, name: str, labels: str, fires: str, quiet: str, *, by: str = "") -> Case:
    """One series each way."""
    return Case(alert, at, {series(name, labels): fires}, {series(name, labels): quiet}, by)


UP = f"up{{{HOST}}}"
IDLE, DRAINING = series("slots", 'state="idle"'), series("draining")
FILE_LABELS = f'{HOST},file="/x/video-appliance.prom"'
FILE = f"node_textfile_mtime_seconds{{{FILE_LABELS}}}"
CASES = [
    Case("VideoApplianceDown", 10, {UP: "1 1 0x10"}, {UP: "1 0 0 1x10"}, HOST),
    Case("VideoFileOld", 10, {FILE: "0x10"}, {FILE: "0+60x10"}, FILE_LABELS),
    counted("VideoBacklogOld", 60, "oldest_pending_seconds", "", "0+60x60", "1700x60"),
    Case("VideoNoEncoders", 10, {IDLE: "0x10", DRAINING: "0x10"}, {IDLE: "0x10", DRAINING: "1x10"}, 'instance="a"'),
    counted(
        "VideoEncodersCrash", 20, "slot_restarts_total", 'reason="boot"', "0+1x20", "0x10 1+0x10", by='instance="a"'
    ),
    counted("VideoEncodersKilled", 20, "slot_restarts_total", 'reason="killed"', "0+1x20", "0 1x20", by='instance="a"'),
    counted(
        "VideoHeartbeatOld", 5, "heartbeat_age_seconds", 'slot="0"', "100x5", "100 100 100 20x5", by=f'{HOST},slot="0"'
    ),
    counted("VideoJobsFail", 30, "stage_failures_total", 'stage="encode",class="transient"', "0+1x30", "0 1x30"),
    counted("VideoUploadsRejected", 40, "stage_failures_total", 'stage="probe",class="rejected"', "0+1x40", "0+0.3x40"),
    counted("VideoReconcileStopped", 20, "reconcile_last_success_timestamp_seconds", "", "0x20", "0+60x20"),
    counted(
        "VideoDependencyDown",
        10,
        "dependency_up",
        'dependency="sqs"',
        "0x10",
        "0 0 0 1x10",
        by=f'{HOST},dependency="sqs"',
    ),
    counted(
        "VideoRedisDown",
        20,
        "dependency_up",
        'dependency="redis"',
        "0x20",
        "0x10 1x10",
        by=f'{HOST},dependency="redis"',
    ),
    counted("VideoLeasesLost", 30, "lease_losses_total", "", "0+1x30", "0 1x30"),
    counted("VideoStreamsNotWhole", 30, "chunks_total", 'outcome="redone"', "0+1x30", "0 1x30"),
    counted("VideoScratchLow", 10, "scratch_free_bytes", "", "1e9x10", "6e9x10", by=HOST),
    counted("VideoRingsFail", 30, "ring_errors_total", "", "0+1x30", "0 1x30", by='instance="a"'),
    counted("VideoMessagesUnreadable", 10, "unreadable_messages_total", "", "0 1x10", "1x10"),
    counted(
        "VideoSandboxIncomplete", 20, "sandbox_layer", 'layer="landlock"', "0x20", "1x20", by=f'{HOST},layer="landlock"'
    ),
    counted("VideoEventsDropped", 10, "events_dropped_total", "", "0 1x10", "1x10", by='instance="a"'),
    counted("VideoSpotNotice", 5, "spot_notice", "", "0 1x5", "0x5", by=HOST),
]


def promtool(rules: dict[str, Any]) -> dict[str, Any]:
    """The file for `promtool test rules`, for rules.yml as parsed."""
    known = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tests = [test for case in CASES for test in (_test(case, known, fires=True), _test(case, known, fires=False))]
    return {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}


def _test(case: Case, known: dict[str, Any], *, fires: bool) -> dict[str, Any]:
    rule = known[case.alert]
    labels = {**rule["labels"], **dict(pair.replace('"', "").split("=") for pair in case.labels.split(",") if pair)}
    found = [{"exp_labels": labels, "exp_annotations": rule["annotations"]}] if fires else []
    shown = case.fires if fires else case.quiet
    return {
        "name": f"{case.alert} {'fires' if fires else 'does not fire'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in shown.items()],
        "alert_rule_test": [{"eval_time": f"{case.at}m", "alertname": case.alert, "exp_alerts": found}],
    }
