"""Flags lie both ways: decoded pictures decide how they were scanned and what their colours mean."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg.pictures import first_picture, scanned
from appliance.adapters.ffmpeg.unplayable import refuse_protected
from appliance.domain.errors import SourceRejected
from tests.adapters.ffmpeg.test_probe import make, probe


def idet(top: int, bottom: int, whole: int, unsure: int) -> list[str]:
    counts = f"TFF: {top:5} BFF: {bottom:5} Progressive: {whole:5} Undetermined: {unsure:5}"
    return [f"[Parsed_idet_0 @ 0x1] Single frame detection: {counts}", f"[idet] Multi frame detection: {counts}"]


@pytest.mark.parametrize(
    ("seen", "flagged", "fields"),
    [
        ((120, 0, 0, 0), False, "tff"),
        ((2, 115, 3, 0), True, "bff"),
        ((0, 0, 120, 0), True, ""),
        ((59, 40, 22, 0), True, ""),  # fields in turns: whole pictures with fine lines
        ((34, 0, 0, 87), False, ""),  # a screen recording that hardly moves
        ((34, 0, 0, 87), True, "auto"),
        ((10, 0, 0, 0), False, ""),  # too few to prove anything
        ((10, 0, 0, 0), True, "auto"),
    ],
)
def test_a_clear_majority_overrules_the_flag(seen: tuple[int, int, int, int], fields: str, *, flagged: bool) -> None:
    assert scanned(idet(*seen), flagged=flagged) == fields


def test_without_a_word_the_flag_counts() -> None:
    assert (scanned([], flagged=True), scanned([], flagged=False)) == ("auto", "")


WOVEN = "testsrc2=s=320x180:r=50:d=3,tinterlace=interleave_top,setfield={}"
CODED = ("-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ilme+ildct", "-x264opts", "tff=1")


@pytest.mark.parametrize(
    ("picture", "options", "fields"),
    [
        (WOVEN.format("tff"), CODED, "tff"),
        (WOVEN.format("prog"), ("-c:v", "libx264", "-preset", "ultrafast"), "tff"),
        ("mandelbrot=s=320x180:r=25,trim=duration=3,scroll=h=0.01:v=0.01,setfield=tff", CODED, ""),
        (
            "mandelbrot=s=320x180:r=25,trim=duration=3,scroll=h=0.01:v=0.01",
            ("-c:v", "libx264", "-preset", "ultrafast"),
            "",
        ),
    ],
    ids=["interlaced", "interlaced, flagged whole", "whole, flagged interlaced", "whole"],
)
def test_recordings_are_looked_at(tmp_path: Path, picture: str, options: tuple[str, ...], fields: str) -> None:
    make(tmp_path, "-f", "lavfi", "-i", picture, *options, "-pix_fmt", "yuv420p", "-f", "mp4")
    video = probe(tmp_path).video
    assert video is not None
    assert video.fields == fields


def test_an_absurd_shape_of_pixel_is_a_mistake() -> None:
    shown = "n: 0 fmt:yuva420p cl:left sar:{} s:320x180 i:P iskey:1"
    for said, aspect in (("64/45", Fraction(64, 45)), ("1/1000", 1), ("0/1", 1)):
        picture = first_picture([shown.format(said), "color_range:pc color_space:bt709 color_primaries:x color_trc:y"])
        assert picture is not None
        assert (picture.sample_aspect, picture.full_range, picture.transparent) == (aspect, True, True)
    assert first_picture(["nothing"]) is None


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        ({"codec_tag_string": "encv"}, "encrypted"),
        ({"codec_tag_string": "enca"}, "encrypted"),
        ({"side_data_list": [{"side_data_type": "DOVI configuration record", "dv_profile": 5}]}, "unsupported"),
    ],
)
def test_what_would_decode_as_noise_or_in_false_colours_is_rejected(stream: dict[str, object], code: str) -> None:
    with pytest.raises(SourceRejected) as caught:
        refuse_protected(stream)
    assert caught.value.code == code
    refuse_protected({"side_data_list": [{"dv_profile": 8}], "codec_tag_string": "hvc1"})


def test_chapters_and_titles_are_read(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=Beginning\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\n"
    )
    make(
        tmp_path,
        *("-f", "lavfi", "-i", "testsrc2=d=2:s=160x90:r=10", "-f", "lavfi", "-i", "sine=d=2"),
        *("-f", "ffmetadata", "-i", str(tmp_path / "notes"), "-map_chapters", "2", "-map", "0", "-map", "1"),
        *("-metadata:s:a:0", "language=ger", "-metadata:s:a:0", "title=Ton", "-f", "matroska"),
    )
    source = probe(tmp_path)
    assert [(part.title, part.start_seconds, part.end_seconds) for part in source.chapters] == [
        ("Beginning", 0, 1),
        ("Chapter 2", 1, 2),
    ]
    assert source.audio is not None
    assert (source.audio.language, source.audio.title) == ("ger", "Ton")
