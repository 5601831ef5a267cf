"""`encode FILE` with two chunks at a time: whole, counted once, and ended when its job ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, Pool
from appliance.encoder import chunk
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


def test_a_colleagues_failure_is_the_jobs_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = chunk._encode_pictures
    seen: list[int] = []

    def failing(tools: Any, rules: Any, plan: Any, one: Any, start: Any) -> Any:
        seen.append(one.number)
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
