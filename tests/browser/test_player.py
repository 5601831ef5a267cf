from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.cli.demo.player import Player
from appliance.config import Config, Encode
from appliance.domain.media import LadderStep
from appliance.wiring.local import encode_file
from tests.browser.player import play
from tests.recordings import lecture

SECONDS = 14
SMALL = Config(encode=Encode(ladder=(LadderStep(180, 28, 400_000), LadderStep(90, 30, 200_000))))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of ours, of several segments."""
    directory = tmp_path_factory.mktemp("stream")
    file = lecture(directory / "lecture.mp4", seconds=SECONDS, size="320x180")
    result = encode_file(SMALL, file, directory / "out", lambda *progress: None)
    assert result.outcome == "READY", result.error_reason
    return directory / "out"


def test_a_stream_plays_to_its_end_without_an_error_or_a_stall(stream: Path) -> None:
    with Player(stream) as served:
        report = play(served.url, "hls.js")
    assert (report["ended"], report["errors"], report["pieces"], report["stalls"]) == (True, [], 1, 0)
    assert abs(report["at"] - SECONDS) < 0.1
    assert report["frames"] > 0
    assert report["audio_bytes"] > 0
    assert report["levels"] in (None, 2)


def test_a_stream_with_a_segment_missing_is_noticed(stream: Path, tmp_path: Path) -> None:
    """So that the test above can fail."""
    copy = shutil.copytree(stream, tmp_path / "out")
    for segment in copy.rglob("*p_00002.m4s"):
        segment.unlink()
    with Player(copy) as served:
        report = play(served.url, "hls.js")
    assert report["errors"]
    assert not report["ended"]
