"""Exact cuts: every numbered frame once, in order, in every rung, across every seam, whatever the source's rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import Config, Encode
from appliance.domain.media import LadderStep
from appliance.wiring.local import EncodeResult, encode_file
from tests.recordings import HEIGHT, WIDTH, numbered, numbers

#: Two rungs, GOPs of half a second, segments of one, chunks of three: many seams in little media.
SETTINGS = Encode(
    ladder=(LadderStep(HEIGHT, 20, 800_000), LadderStep(90, 20, 400_000)),
    gop_seconds=0.5,
    segment_seconds=1.0,
    chunk_seconds=3.0,
)


def encode(file: Path, out: Path, **changes: object) -> EncodeResult:
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    result = encode_file(Config(encode=settings), file, out, lambda percent, step, more: None)
    assert result.outcome == "READY", result.error_reason
    return result


@pytest.mark.parametrize(
    ("rate", "step"),
    [("24", 1), ("25", 1), ("30000/1001", 1), ("30", 1), ("60", 2)],
    ids=["24", "25", "29.97", "30", "60to30"],
)
def test_every_frame_once_in_order_across_every_seam(tmp_path: Path, rate: str, step: int) -> None:
    count = 250 * step
    source = numbered(tmp_path / "source.mp4", rate=rate, frames=count, audio=False)
    result = encode(source, tmp_path / "out")
    assert result.chunks >= 3
    for width, height in ((WIDTH, HEIGHT), (160, 90)):
        playlist = tmp_path / "out" / f"{height}p.m3u8"
        assert numbers(playlist, width, height) == list(range(0, count, step))


@pytest.mark.parametrize("container", ["matroska", "webm", "mpegts"])
def test_other_containers_lose_no_frame(tmp_path: Path, container: str) -> None:
    vp8 = ["-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime"] if container == "webm" else []
    options = ["-f", container, *vp8]
    source = numbered(tmp_path / "source", rate="30", frames=200, audio=False, options=options)
    encode(source, tmp_path / "out")
    assert numbers(tmp_path / "out" / f"{HEIGHT}p.m3u8", WIDTH, HEIGHT) == list(range(200))


def test_chunked_and_unchunked_streams_show_the_same_frames(tmp_path: Path) -> None:
    source = numbered(tmp_path / "source.mkv", rate="30", frames=200)
    encode(source, tmp_path / "many")
    encode(source, tmp_path / "one", chunk_seconds=600.0)
    playlist = f"{HEIGHT}p.m3u8"
    assert numbers(tmp_path / "many" / playlist, WIDTH, HEIGHT) == numbers(tmp_path / "one" / playlist, WIDTH, HEIGHT)


def test_inits_are_identical_in_every_chunk(tmp_path: Path) -> None:
    source = numbered(tmp_path / "source.mp4", rate="25", frames=200)
    encode(source, tmp_path / "out")
    inits = [path.read_bytes() for path in (tmp_path / "out").rglob(f"{HEIGHT}p_init.mp4")]
    assert len(inits) >= 3
    assert len(set(inits)) == 1


def test_the_output_can_be_encoded_in_pieces_of_any_length(tmp_path: Path) -> None:
    """A source shorter than a segment, and one that ends one frame into a segment."""
    for count in (1, 31, 91):
        source = numbered(tmp_path / f"{count}.mp4", rate="30", frames=count, audio=False)
        result = encode(source, tmp_path / f"out{count}")
        assert result.duration_seconds == pytest.approx(count / 30)
        playlist = tmp_path / f"out{count}" / f"{HEIGHT}p.m3u8"
        assert numbers(playlist, WIDTH, HEIGHT) == list(range(count))


def test_a_file_that_is_not_media_ends_failed_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("these are my notes")
    result = encode_file(Config(), tmp_path / "notes.mp4", tmp_path / "out", lambda percent, step, more: None)
    assert (result.outcome, result.error_code) == ("FAILED", "not_media")
    assert result.error_reason
    assert not list((tmp_path / "out").iterdir())
