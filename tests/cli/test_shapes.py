"""What programs read of `--json`. Every answer in this suite is held against its shape (tests/shell.py)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.__main__ import VERBS
from appliance.adapters.redis import Telemetry
from appliance.cli.shapes import PRINTED, Listed, Progress, Queued, Reconciled
from appliance.config import Config
from tests.hosts import World, eventually, host
from tests.recordings import lecture
from tests.shapes import PAGE, misfits, page
from tests.shell import appliance

#: One has a log, the other a script.
WITHOUT_JSON = {"run", "completion"}


def test_a_field_that_is_renamed_or_added_changes_the_page() -> None:
    """`python -m tests.shapes` writes it anew."""
    assert PAGE.read_text() == page()


def test_every_verb_has_a_shape() -> None:
    assert {verb.split()[0] for verb in PRINTED} == {*VERBS} - WITHOUT_JSON


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ({"video_id": 7, "status": "UPLOADED"}, Queued, ".rung: is missing"),
        ({"video_id": 7, "status": "UPLOADED", "rung": True, "x": 1}, Queued, ".x: Queued has no such field"),
        ({"video_id": "7", "status": "UPLOADED", "rung": True}, Queued, ".video_id: '7' is not integer"),
        ({"video_id": 7, "status": "LATE", "rung": 1}, Queued, ".status: 'LATE' is not PENDING or"),
        ([], Queued, ": [] is not Queued"),
        ({"by_reason": {"lease": True}}, Reconciled, ".by_reason.lease: True is not integer"),
        ({"lines": ["a", 2]}, Reconciled, ".lines[1]: 2 is not text"),
        ({"created_at": "yesterday"}, Listed, ".created_at: 'yesterday' is not "),
        ({"receipt": {"cpu": 1}}, Listed, ".receipt.cpu: Receipt has no such field"),
    ],
)
def test_what_does_not_fit_is_found(value: Any, kind: Any, said: str) -> None:
    assert [found for found in misfits(value, kind) if found.startswith(said)]


def test_a_real_host_and_a_real_video_keep_to_them(world: World, tmp_path: Path) -> None:
    recording = lecture(tmp_path / "lecture.mp4", seconds=2, size="160x90")
    with host(world, tmp_path / "one") as running:
        config = tmp_path / "one" / "appliance.yaml"
        ended = appliance("submit", recording, "--wait", "--json", "--config", config)
        assert (ended.status, ended.last["status"]) == (0, "READY")
        assert appliance("show", ended.last["video_id"], "--json", "--config", config).last == ended.last
        assert ended.last["attempts"][0]["receipt"]["chunks_total"] == len(ended.last["chunks"]) > 0
        redis = Telemetry(world.redis_url)
        assert [*misfits(redis.read_progress(1, ended.last["video_id"]), Progress)] == []
        redis.close()
        (listed,) = appliance("list", "--json", "--config", config).objects
        assert listed["receipt"] == ended.last["attempts"][0]["receipt"]
        assert appliance("status", "--json", "--config", config).last["service"]["pid"] == running.process.pid
        eventually(lambda: appliance("top", "--json", "--config", config).last["service"]["recent"])
        assert appliance("reconcile", "--dry-run", "--json", "--config", config).last["dry_run"] is True
        again = appliance("retry", ended.last["video_id"], "--json", "--config", config).last
        assert (again["queued"], again["rung"]) == (True, True)
        cancelled = appliance("cancel", ended.last["video_id"], 999, "--json", "--config", config)
        assert (cancelled.status, cancelled.last["answer"]) == (1, "unknown")


def test_show_prints_every_section_of_the_file(settings: Path) -> None:
    shown = appliance("config", "show", "--json", "--config", settings).last["settings"]
    assert [*shown] == [section.name for section in fields(Config) if section.name != "path"]
    assert {*yaml.safe_load(settings.read_text())} <= {*shown}
