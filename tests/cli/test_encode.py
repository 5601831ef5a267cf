from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import tools
from tests.recordings import lecture
from tests.shell import appliance, process


def test_a_recording_becomes_a_stream_whose_result_is_the_last_line(tmp_path: Path) -> None:
    file = lecture(tmp_path / "lecture.mp4", seconds=4, size="640x480")
    ran = process("encode", file, "--out", tmp_path / "out", "--json", "--config", "/dev/null")
    assert (ran.status, ran.err) == (0, "")
    result = ran.last
    assert (result["outcome"], result["error_code"], result["error_reason"]) == ("READY", None, None)
    assert result["master"] == str(tmp_path / "out/master.m3u8")
    assert {"480p", "360p"} <= set(result["rungs"])
    assert result["chunks"] == 2
    assert abs(result["duration_seconds"] - 4) < 0.1
    assert result["cpu_seconds"] > 0
    assert result["wall_seconds"] > 0
    assert _heights(Path(result["master"])) == {480, 360}


@pytest.mark.parametrize("name", ["-y 'it\\'s' \"a?b\"&c=$(id);`d` %s..mp4", "x" * 251 + ".mp4"])
def test_f47_whatever_the_file_is_called_it_is_encoded_and_nothing_is_named_after_it(tmp_path: Path, name: str) -> None:
    lecture(tmp_path / "plain.mp4", seconds=1, size="160x90").rename(tmp_path / name)
    ran = appliance("encode", tmp_path / name, "--out", tmp_path / "out", "--json", "--config", "/dev/null")
    assert ran.last["outcome"] == "READY"
    made = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")]
    assert [path for path in made if not re.fullmatch(r"[a-z0-9_./-]{1,100}", path)] == []


def test_without_a_terminal_people_get_a_line_a_step_and_the_receipt(tmp_path: Path) -> None:
    file = lecture(tmp_path / "lecture.mp4", seconds=2, size="320x180")
    ran = appliance("encode", file, "--out", tmp_path / "out", "--config", "/dev/null")
    assert ran.status == 0
    assert [line for line in ran.err.splitlines() if line.startswith("encode")] == ["encode …"]
    assert "chunks" in ran.out
    assert ran.out.splitlines()[-1] == f"READY {tmp_path}/out/master.m3u8"


def test_a_file_that_is_not_media_fails_with_a_code_and_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Not a film.\n" * 100)
    ran = appliance("encode", tmp_path / "notes.txt", "--out", tmp_path / "out", "--json", "--config", "/dev/null")
    assert ran.status == 1
    assert (ran.last["outcome"], ran.last["error_code"], ran.last["master"]) == ("FAILED", "not_media", "")
    told = appliance("encode", tmp_path / "notes.txt", "--out", tmp_path / "out", "--config", "/dev/null")
    assert told.status == 1
    assert told.out.splitlines()[-1] == f"FAILED not_media: {ran.last['error_reason']}"


def test_a_missing_file_fails_as_a_missing_source(tmp_path: Path) -> None:
    ran = appliance("encode", tmp_path / "none.mp4", "--out", tmp_path / "out", "--json", "--config", "/dev/null")
    assert (ran.status, ran.last["error_code"]) == (1, "source_missing")


def test_an_output_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    ran = appliance("encode", tmp_path / "none.mp4", "--out", tmp_path / "out", "--config", "/dev/null")
    assert ran.status == 78
    assert f"{tmp_path}/out cannot be written" in ran.err


def _heights(master: Path) -> set[int]:
    command = [tools.find().ffprobe, "-v", "error", "-show_entries", "stream=height", "-of", "json", str(master)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {stream["height"] for stream in found["streams"] if "height" in stream}
