from __future__ import annotations

import datetime as dt
import json
import re

import pytest

from appliance.cli import receipts, terminal
from appliance.domain.receipt import Receipt


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.84, "0.8 s"), (42.4, "42 s"), (185, "3 min 05 s"), (7500, "2 h 05 min")],
)
def test_seconds_read_as_people_say_them(value: float | None, text: str) -> None:
    assert terminal.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (512, "512 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (5 * 2**40, "5.0 TiB")],
)
def test_sizes_read_in_powers_of_1024(value: float | None, text: str) -> None:
    assert terminal.size(value) == text


def test_a_table_on_a_terminal_is_at_most_100_columns_wide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.table("videos", ("id>", "about"), [[1, "word " * 60]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) > 4


def test_into_a_pipe_nothing_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.facts("video", {"reason": "word " * 60, "unknown": None})
    text = capsys.readouterr().out
    assert ("word " * 60).strip() in text
    assert "unknown" not in text


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.say("FAILED", style="bold red")
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.say("FAILED", style="red")
    assert "\x1b[31" not in capsys.readouterr().out


def test_json_is_one_line_with_times_in_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.emit({"at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "who": "é"})
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"at": "2026-01-02T03:04:05+00:00", "who": "é"}


def test_a_receipt_tells_speed_and_what_was_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    receipt = Receipt(media_seconds=60, wall_seconds=20, chunks_total=4, chunks_encoded=1, chunks_resumed=3)
    receipts.show(receipt.to_json())
    text = capsys.readouterr().out
    assert "20 s (3.0 × as fast as it plays)" in text
    assert "4: 1 encoded, 3 resumed" in text
    assert "redone" not in text
