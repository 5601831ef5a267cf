from __future__ import annotations

from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.cli.demo import sample
from appliance.domain.errors import ApplianceError


def test_two_renders_give_the_same_bytes(tmp_path: Path) -> None:
    ffmpeg, slides = tools.find().ffmpeg, (("Title", "a line"),)
    first = sample.render(ffmpeg, tmp_path / "a.mp4", slides).read_bytes()
    assert sample.render(ffmpeg, tmp_path / "b.mp4", slides).read_bytes() == first
    assert len(first) > 10_000


def test_every_slide_of_the_sample_is_typed_in_its_time() -> None:
    lengths = {len(sample._typed(slide)) for slide in sample.SLIDES}
    assert lengths == {sample.SLIDE_SECONDS * sample.TYPING_RATE}


def test_an_ffmpeg_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ApplianceError, match="could not be rendered"):
        sample.render(tools.find().ffmpeg, tmp_path / "no such directory/a.mp4", (("Title",),))
