from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.benchmarks import vmaf
from tests.encoder.test_seams import SETTINGS
from tests.recordings import lecture


def test_chunks_look_as_good_as_one_uncut_encode(tmp_path: Path) -> None:
    source = lecture(tmp_path / "source.mp4", seconds=7, size="320x180")
    mean, seam = vmaf.measure(source, tmp_path, replace(SETTINGS, ladder=SETTINGS.ladder[:1]))
    assert mean.ok, mean
    assert seam.ok, seam
    assert mean.uncut > 60  # the two show the same frames: one frame off is far below
