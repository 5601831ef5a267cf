"""`encode FILE` with two chunks at a time: whole, counted once, and ended when its job ends."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Pool
from appliance.domain.errors import Transient
from appliance.encoder import chunk, workshop
from appliance.wiring import local
from appliance.wiring.local import encode_file
from tests.encoder.test_seams import SETTINGS
from tests.recordings import lecture

TWO = Config(encode=replace(SETTINGS, chunk_seconds=60), pool=Pool(encoders=2))


def nobody(*_: Any) -> None:
    pass


def test_a_short_video_is_cut_into_a_chunk_for_each_encoder_and_every_one_is_counted(tmp_path: Path) -> None:
    result = encode_file(TWO, lecture(tmp_path / "source.mp4", seconds=8), tmp_path / "out", nobody)
    assert result.outcome == "READY", result.error_reason
    assert result.chunks == 3  # the sound, and the pictures in two halves
    receipt = result.receipt
    assert receipt["chunks_encoded"] == 3
    assert receipt["cpu_seconds"] == pytest.approx(receipt["video"]["cpu_seconds"])
    assert receipt["bytes_out"] == receipt["video"]["bytes_out"]


def test_what_a_colleague_cannot_encode_the_job_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, refused = workshop.encode, []

    def alone(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == "colleague":
            refused.append(options)
            raise Transient("Not here.", code="encode_failed")
        return encode(*arguments, **options)

    monkeypatch.setattr(workshop, "encode", alone)
    result = encode_file(TWO, lecture(tmp_path / "source.mp4", seconds=8), tmp_path / "out", nobody)
    assert (result.outcome, result.receipt["chunks_encoded"]) == ("READY", 3)
    assert len(refused) == 1  # then it leaves


def test_a_colleague_without_a_room_leaves_all_to_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, full = local._link, []

    def no_room(file: Path, target: Path) -> None:
        if threading.current_thread().name == "colleague":
            full.append(target)
            raise OSError(errno.ENOSPC, "No space left on device")
        link(file, target)

    monkeypatch.setattr(local, "_link", no_room)
    monkeypatch.setattr(threading, "excepthook", full.append)
    result = encode_file(TWO, lecture(tmp_path / "source.mp4", seconds=8), tmp_path / "out", nobody)
    assert (result.outcome, result.receipt["chunks_encoded"]) == ("READY", 3)
    assert len(full) == 1


def test_a_chunk_that_fails_everywhere_is_the_jobs_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = chunk._encode_pictures

    def failing(tools: Any, rules: Any, plan: Any, one: Any, start: Any) -> Any:
        if one.number == 2:
            return replace(encode(tools, rules, plan, one, start), status=1)
        return encode(tools, rules, plan, one, start)

    monkeypatch.setattr(chunk, "_encode_pictures", failing)
    result = encode_file(TWO, lecture(tmp_path / "source.mp4", seconds=8), tmp_path / "out", nobody)
    assert (result.outcome, result.error_code) == ("FAILED", "encode_failed")
    assert "chunk 2" in str(result.error_reason)
    assert not list((tmp_path / "out").iterdir())


def test_colleagues_stop_when_the_job_is_interrupted(tmp_path: Path) -> None:
    def interrupt(_: float, step: str, __: Any) -> None:
        if step == "encode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_file(TWO, lecture(tmp_path / "source.mp4", seconds=40), tmp_path / "out", interrupt)
    assert not list((tmp_path / "out").iterdir())
