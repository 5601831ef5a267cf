"""What lies beside the segments, looked at: the storyboard, the poster, the subtitles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.wiring.local import encode_file
from tests.beside import two_at_once
from tests.encoder.test_seams import SETTINGS
from tests.recordings import ffmpeg, gray

#: Of the settings of the seams: two pictures a chunk of three seconds.
CONFIG = Config(encode=replace(SETTINGS, sprite_seconds=2.0))


def encode(source: Path, out: Path) -> Path:
    result = encode_file(CONFIG, source, out, lambda percent, step, more: None)
    assert result.outcome == "READY", result.error_reason
    return out / "media"


def only(media: Path, pattern: str) -> Path:
    (found,) = media.glob(pattern)
    return found


def test_each_chunk_has_its_sheets_and_the_first_a_poster(tmp_path: Path) -> None:
    """Black for a second, then a grey that grows by 30 a second: what a picture shows says when it was."""
    grey = "color=black:s=320x180:r=10:d=8,geq=lum='if(lt(T,1),16,16+30*floor(T))':cb=128:cr=128"
    ffmpeg("-f", "lavfi", "-i", grey, "-pix_fmt", "yuv420p", str(tmp_path / "source.mp4"))
    media = encode(tmp_path / "source.mp4", tmp_path / "out")
    assert [len(list(media.glob(f"{chunk}-*/sprite_*.jpg"))) for chunk in (1, 2, 3)] == [1, 1, 1]
    assert {path.parent.name[0] for path in media.rglob("poster.jpg")} == {"1"}
    for chunk, seconds in ((1, (0, 2)), (2, (3, 5)), (3, (6, None))):
        sheet = only(media, f"{chunk}-*/sprite_00001.jpg")
        for column, at in enumerate(seconds):
            shown = gray(sheet, f"crop=iw/2:ih:{column}*iw/2:0,scale=1:1:flags=area")[0]
            assert abs(shown - 30 * (at or 0) * 255 / 219) < 5, (chunk, column)
    assert gray(only(media, "1-*/poster.jpg"), "scale=1:1:flags=area")[0] > 10  # not the black second


def test_a_black_recording_has_a_black_poster(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=black:s=320x180:r=10:d=1", "-pix_fmt", "yuv420p", str(tmp_path / "source.mp4"))
    media = encode(tmp_path / "source.mp4", tmp_path / "out")
    assert max(gray(only(media, "1-*/poster.jpg"))) < 4


def test_sheets_and_poster_are_made_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=1", str(tmp_path / "source.mp4"))
    two_at_once(monkeypatch, "appliance.encoder.chunk", "mjpeg")
    media = encode(tmp_path / "source.mp4", tmp_path / "out")
    assert only(media, "1-*/sprite_00001.jpg").stat().st_size
    assert only(media, "1-*/poster.jpg").stat().st_size


def test_sound_alone_has_a_picture_of_its_waves(tmp_path: Path) -> None:
    """Loud in its first half: the left of the picture is brighter than the right."""
    ffmpeg(
        "-f", "lavfi", "-i", "sine=d=4,volume='if(lt(t,2),1,0.01)':eval=frame", "-c:a", "aac", str(tmp_path / "a.m4a")
    )
    poster = only(encode(tmp_path / "a.m4a", tmp_path / "out"), "0-*/poster.jpg")
    left, right = (sum(gray(poster, f"crop=iw/2:ih:{half}*iw/2:0,scale=16:9")) for half in (0, 1))
    assert left > 1.5 * right


def test_text_subtitles_are_on_the_output_timeline(tmp_path: Path) -> None:
    """A recording whose clock begins at 10 s, two text tracks, and one of pictures that is left out."""
    (tmp_path / "s.srt").write_text(
        "1\n00:00:09,000 --> 00:00:11,000\nHello\n\n2\n00:00:12,500 --> 00:00:13,000\n<i>Grüße</i>\n\n"
    )
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=4", "-itsoffset", "-10", "-i", str(tmp_path / "s.srt")),
        *("-map", "0", "-map", "1", "-map", "1", "-c:s:1", "ass", "-metadata:s:s:0", "language=ger"),
        *("-output_ts_offset", "10", "-avoid_negative_ts", "disabled", str(tmp_path / "source.mkv")),
    )
    media = encode(tmp_path / "source.mkv", tmp_path / "out")
    for name in ("text1", "text2"):
        text = only(media, f"*/{name}.vtt").read_text()
        assert text == (
            "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n"
            "00:00:00.000 --> 00:00:01.000\nHello\n\n00:00:02.500 --> 00:00:03.000\n<i>Grüße</i>\n"
        )


def test_text_that_nobody_can_decode_is_a_warning_and_no_track(tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nABCDEFGH\n\n")
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=1", "-i", str(tmp_path / "s.srt"), str(tmp_path / "s.mkv")),
    )
    broken = (tmp_path / "s.mkv").read_bytes().replace(b"ABCDEFGH", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe")
    (tmp_path / "s.mkv").write_bytes(broken)
    result = encode_file(CONFIG, tmp_path / "s.mkv", tmp_path / "out", lambda percent, step, more: None)
    assert result.outcome == "READY"
    assert any("subtitles in stream 1" in warning for warning in result.receipt["warnings"])
    assert not list((tmp_path / "out").rglob("text*.vtt"))
