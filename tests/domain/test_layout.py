from __future__ import annotations

from uuid import UUID

import pytest

from appliance.domain.layout import home, maker_of

TOKEN = UUID("8a4ee9a6-8a0e-4a53-9a3b-4b9d3a6d2f10")
HOME = home("hls", 7)


@pytest.mark.parametrize(
    "key",
    [f"hls/7/media/5f2c/12-{TOKEN}/360p_00001.m4s", f"hls/7/3-{TOKEN}/master.m3u8", f"hls/7/3-{TOKEN}/poster.jpg"],
)
def test_a_piece_lies_under_the_token_of_its_maker(key: str) -> None:
    assert maker_of(key, HOME) == TOKEN


@pytest.mark.parametrize(
    "key",
    [
        "hls/7/lecture.mp4",
        "hls/7/3-master/master.m3u8",
        f"hls/7/{TOKEN}/master.m3u8",
        f"hls/7/3-{TOKEN}",
        f"hls/7/3-{TOKEN}/below/master.m3u8",
        f"hls/7/media/3-{TOKEN}/poster.jpg".replace("/media/", "/other/"),
        f"hls/70/3-{TOKEN}/master.m3u8",
        f"hls/3-{TOKEN}/master.m3u8",
    ],
)
def test_what_looks_different_was_not_made_here(key: str) -> None:
    assert maker_of(key, HOME) is None
