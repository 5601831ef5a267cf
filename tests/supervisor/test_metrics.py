from __future__ import annotations

import re
from itertools import product
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.domain.errors import CLASSES, ERROR_CODES, REJECTED, class_of
from appliance.domain.events import ChunkEnded, Claimed, Counted, Settled
from appliance.domain.notice import Kind, Notice
from appliance.supervisor.board import Board, SlotView
from appliance.supervisor.capacity import scratch
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.metrics import COUNTERS, HISTOGRAMS, Metrics

TOKEN = UUID(int=1)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def scrape(metrics: Metrics, board: Board | None = None) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    board = board or Board(0.0, 0.0)
    text = metrics.scrape(board, Dependencies(lambda: 0.0, metrics.count)).decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_every_label_value_starts_at_0(metrics):
    found = scrape(metrics)
    for name, counter in COUNTERS.items():
        expected = {
            tuple(sorted(zip(counter.labels, values, strict=True))) for values in product(*counter.labels.values())
        }
        assert found[f"video_appliance_{name}_total"] == dict.fromkeys(expected, 0.0)
    for name in HISTOGRAMS:
        assert found[f"video_appliance_{name}_count"] == {(): 0.0}


def test_names_are_ours_and_total_stands_on_counters_only(metrics):
    text = metrics.scrape(Board(0.0, 0.0), Dependencies(lambda: 0.0, metrics.count)).decode()
    kinds = dict(re.findall(r"# TYPE (\S+) (\S+)", text))
    assert all(name.startswith("video_appliance_") for name in kinds)
    assert {name for name in kinds if name.endswith("_total")} == {n for n, kind in kinds.items() if kind == "counter"}
    assert not [name for name in kinds if name.endswith("_created")]


def test_a_job_that_made_a_video_ready(metrics):
    metrics.heard(Claimed(TOKEN, 7, 3, 1, waited_seconds=2.5))
    metrics.heard(ChunkEnded(TOKEN, "encoded"))
    metrics.heard(ChunkEnded(TOKEN, "none"))
    receipt: dict[str, object] = {"media_seconds": 60.0, "bytes_out": 500, "wall_seconds": 20.0, "chunks_resumed": 3}
    receipt |= {"bytes_in": 900, "step_seconds": {"fetch": 2.0, "encode": 17.5, "lunch": 1.0}}
    metrics.heard(Settled(TOKEN, 7, "ok", receipt=receipt))
    found = scrape(metrics)
    assert found["video_appliance_jobs_total"][("outcome", "ok"),] == 1
    assert found["video_appliance_media_seconds_total"][()] == 60
    assert found["video_appliance_output_bytes_total"][()] == 500
    assert found["video_appliance_chunks_total"][("outcome", "encoded"),] == 1
    assert found["video_appliance_chunks_total"][("outcome", "resumed"),] == 3
    assert found["video_appliance_queue_wait_seconds_bucket"][("le", "5"),] == 1
    assert found["video_appliance_queue_wait_seconds_bucket"][("le", "1"),] == 0
    assert found["video_appliance_job_duration_seconds_sum"][()] == 20
    assert found["video_appliance_job_speed_ratio_bucket"][("le", "4"),] == 1
    assert found["video_appliance_job_speed_ratio_bucket"][("le", "2"),] == 0
    assert found["video_appliance_input_bytes_total"][()] == 900
    assert found["video_appliance_stage_seconds_total"][("stage", "encode"),] == 17.5
    assert found["video_appliance_stage_seconds_total"][("stage", "other"),] == 1


def test_a_failed_job_counts_its_error_code_and_no_media(metrics):
    metrics.heard(Settled(TOKEN, 7, "failed", error_code="not_media", receipt={"media_seconds": 9.0}, step="probe"))
    assert "not_media" in ERROR_CODES
    assert metrics.value("job_failures", "not_media") == 1
    assert metrics.value("stage_failures", "probe", "rejected") == 1
    assert metrics.value("media_seconds") == 0


def test_counted_events_go_to_the_counter_they_name(metrics):
    metrics.heard(Counted("unreadable_messages"))
    metrics.heard(Counted("rings", 2.0, ("release",)))
    assert (metrics.value("unreadable_messages"), metrics.value("rings", "release")) == (1, 2)


def test_an_unknown_counter_is_a_dropped_event_and_an_unknown_label_is_other(metrics):
    metrics.heard(Counted("nonsense"))
    metrics.heard(Counted("rings"))
    metrics.heard(Settled(TOKEN, 7, "exploded"))
    assert metrics.value("events_dropped") == 2
    assert metrics.value("jobs", "other") == 1


def test_what_was_never_learnt_is_left_out_and_not_said_to_be_0(metrics):
    found = scrape(metrics)
    assert "video_appliance_backlog_videos" not in found
    assert "video_appliance_reconcile_last_success_timestamp_seconds" not in found


def test_gauges_come_from_the_board(metrics):
    slot = SlotView(0, "busy", 7, 1.0, 0, 7, 50.0, "encode", 2.0, 30.0, heartbeat_age_seconds=12.5)
    board = Board(
        0.0, 0.0, slots=(slot,), backlog={"UPLOADED": 4, "PROCESSING": 0}, oldest_due_seconds=9.0, reconciled_at=1e9
    )
    found = scrape(metrics, board)
    assert found["video_appliance_slots"][("state", "busy"),] == 1
    assert found["video_appliance_slots"][("state", "idle"),] == 0
    assert found["video_appliance_heartbeat_age_seconds"][("slot", "0"),] == 12.5
    assert found["video_appliance_spot_notice"][()] == found["video_appliance_rebalance_notice"][()] == 0
    assert "video_appliance_scale_in_protected" not in found
    assert found["video_appliance_backlog_videos"][("status", "UPLOADED"),] == 4
    assert found["video_appliance_backlog_videos"][("status", "PROCESSING"),] == 0
    assert found["video_appliance_oldest_pending_seconds"][()] == 9
    assert found["video_appliance_dependency_up"][("dependency", "postgres"),] == 1
    assert found["video_appliance_reconcile_last_success_timestamp_seconds"][()] == 1e9


@pytest.mark.parametrize(("kind", "away", "may_go"), [("spot", 1, 0), ("termination", 1, 0), ("rebalance", 0, 1)])
def test_what_ec2_says_of_the_host_and_what_its_group_was_told(metrics, kind, away, may_go):
    found = scrape(metrics, Board(0.0, 0.0, notice=Notice(Kind(kind), "It goes.", drains=True), protected=True))
    assert found["video_appliance_spot_notice"][()] == away
    assert found["video_appliance_rebalance_notice"][()] == may_go
    assert found["video_appliance_scale_in_protected"][()] == 1


def test_every_code_of_the_row_has_a_class():
    assert set(ERROR_CODES) >= REJECTED
    assert {class_of(code) for code in ERROR_CODES} == set(CLASSES)
    assert class_of("internal_error") == "internal"


def test_scratch_is_what_lies_there_and_what_is_free(metrics, tmp_path):
    (tmp_path / "job-1").mkdir()
    (tmp_path / "job-1" / "source").write_bytes(b"x" * 8192)
    room = scratch(tmp_path)
    assert room is not None
    assert 8192 <= room.used_bytes < 65536
    text = metrics.scrape(Board(0.0, 0.0), Dependencies(lambda: 0.0, metrics.count), room).decode()
    assert f"video_appliance_scratch_used_bytes {float(room.used_bytes)}" in text
    assert "video_appliance_scratch_free_bytes" in text
    assert scratch(tmp_path / "none") is None
