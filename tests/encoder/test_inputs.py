"""Whatever a teacher uploads: tiny recordings of each kind, encoded, and looked at."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.config import Config
from appliance.domain.media import LadderStep
from appliance.wiring.local import EncodeResult, encode_file
from tests.encoder.test_seams import SETTINGS
from tests.recordings import HEIGHT, WIDTH, ffmpeg, gray, numbered, numbers, on_screen

ONE_RUNG = (LadderStep(HEIGHT, 18, 800_000),)
#: Red left and blue right in the upper half, black below: no turn or mirror looks like another.
CORNERS = "color=black:s=320x180:r=10:d=0.5,format=gbrp,geq=g=0:r='255*lt(X,160)*lt(Y,90)':b='255*gte(X,160)*lt(Y,90)'"


def encode(source: Path, **changes: object) -> EncodeResult:
    """Into `out` beside the source."""
    settings = replace(SETTINGS, **{"ladder": ONE_RUNG, "sprite_seconds": 0.0, **changes})  # type: ignore[arg-type]
    result = encode_file(Config(encode=settings), source, source.parent / "out", lambda percent, step, more: None)
    assert result.outcome == "READY", result.error_reason
    return result


def top(source: Path) -> Path:
    """The playlist of the highest rung."""
    return next(path for path in (source.parent / "out").glob("*p.m3u8") if "iframe" not in path.name)


def colours(source: Path, columns: int, rows: int) -> list[tuple[int, int, int]]:
    """The first frame that came out, shrunk to so many pixels, as RGB."""
    chain = f"scale=in_range=tv:in_color_matrix=bt709,format=gbrp,scale={columns}:{rows}:flags=area"
    command = [tools.find().ffmpeg, "-v", "error", "-i", str(top(source)), "-frames:v", "1", "-vf", chain]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return [(raw[at], raw[at + 1], raw[at + 2]) for at in range(0, len(raw), 3)]


def names(source: Path) -> str:
    """What the four quarters show, line by line: r, b or a dot."""
    return "".join("r" if red > 150 else "b" if blue > 150 else "." for red, _, blue in colours(source, 2, 2))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("-display_rotation", "90"), "b.r."),
        (("-display_rotation", "180"), "..br"),
        (("-display_rotation", "270"), ".r.b"),
        (("-display_hflip",), "br.."),
        (("-display_rotation", "90", "-display_hflip"), ".b.r"),
    ],
    ids=["90", "180", "270", "mirrored", "90 and mirrored"],
)
def test_pictures_come_out_upright(tmp_path: Path, options: tuple[str, ...], shown: str) -> None:
    ffmpeg("-f", "lavfi", "-i", CORNERS, "-pix_fmt", "yuv420p", str(tmp_path / "flat.mp4"))
    source = tmp_path / "source.mp4"
    ffmpeg(*options, "-i", str(tmp_path / "flat.mp4"), "-c", "copy", str(source))
    encode(source)
    assert names(source) == shown


def patch(path: Path, luma: int, *options: str) -> Path:
    """One grey in ten bits."""
    grey = f"color=black:s=320x180:r=10:d=0.5,format=yuv420p10le,geq=lum={luma}:cb=512:cr=512"
    ffmpeg("-f", "lavfi", "-i", grey, *options, str(path))
    return path


def hevc(transfer: str) -> tuple[str, ...]:
    tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=0"
    return ("-c:v", "libx265", "-x265-params", tags, "-tag:v", "hvc1")


@pytest.mark.parametrize(
    ("transfer", "luma", "grey"),
    # PQ: 10, 203 (reference white) and 1000 cd/m²; HLG: half signal and reference white (ITU-R BT.2408)
    [
        ("smpte2084", 328, 58),
        ("smpte2084", 573, 206),
        ("smpte2084", 722, 255),
        ("arib-std-b67", 502, 127),
        ("arib-std-b67", 721, 206),
    ],
)
def test_high_dynamic_range_comes_out_in_standard_range(tmp_path: Path, transfer: str, luma: int, grey: int) -> None:
    source = patch(tmp_path / "source.mp4", luma, *hevc(transfer))
    encode(source)
    assert gray(top(source), "scale=1:1:flags=area")[0] == pytest.approx(grey, abs=6)


def test_the_pictures_colours_are_believed_not_the_containers(tmp_path: Path) -> None:
    patch(tmp_path / "pq.mp4", 573, *hevc("smpte2084"))
    bt709 = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-movflags", "+write_colr")
    source = tmp_path / "source.mp4"
    ffmpeg("-i", str(tmp_path / "pq.mp4"), "-c", "copy", *bt709, str(source))
    encode(source)
    assert gray(top(source), "scale=1:1:flags=area")[0] == pytest.approx(206, abs=6)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p", "yuv444p", "yuvj420p", "rgb24", "gbrp10le", "gray"])
def test_every_pixel_format_keeps_its_colour(tmp_path: Path, pixels: str) -> None:
    wanted = (200, 200, 200) if pixels == "gray" else (200, 100, 50)
    colour = "color=0x{:02x}{:02x}{:02x}:s=320x180:r=10:d=0.5".format(*wanted)
    source = tmp_path / "source.mkv"
    ffmpeg("-f", "lavfi", "-i", colour, "-vf", f"format={pixels}", "-c:v", "ffv1", str(source))
    encode(source)
    assert colours(source, 1, 1)[0] == pytest.approx(wanted, abs=6)


@pytest.mark.parametrize(
    "options",
    [("-c:v", "qtrle", "-f", "mov"), ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-f", "webm")],
    ids=["mov", "webm"],
)
def test_what_is_transparent_becomes_black(tmp_path: Path, options: tuple[str, ...]) -> None:
    """White everywhere, transparent in the right half."""
    half = "color=white:s=320x180:r=10:d=0.5,format=rgba,geq=r=255:g=255:b=255:a='if(lt(X,160),255,0)'"
    source = tmp_path / "source"
    ffmpeg("-f", "lavfi", "-i", half, *options, str(source))
    encode(source)
    (left, *_), (right, *_) = colours(source, 2, 1)
    assert left > 240
    assert right < 10


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [("321x181", "1", (320, 180)), ("180x320", "1", (180, 320)), ("160x180", "2", (320, 180)), ("2x2", "1", (2, 2))],
)
def test_any_size_and_any_shape_of_pixel(tmp_path: Path, size: str, aspect: str, shown: tuple[int, int]) -> None:
    source = tmp_path / "source.mkv"
    ffmpeg("-f", "lavfi", "-i", f"color=white:s={size}:r=10:d=0.5,setsar={aspect}", "-c:v", "ffv1", str(source))
    encode(source)
    assert f"RESOLUTION={shown[0]}x{shown[1]}" in (tmp_path / "out" / "master.m3u8").read_text()


def joined(target: Path, *pieces: Path) -> Path:
    target.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return target


def test_a_call_that_changes_its_size_in_the_middle_is_fitted_into_the_first(tmp_path: Path) -> None:
    pieces = [tmp_path / "a.ts", tmp_path / "b.ts"]
    for number, (piece, size) in enumerate(zip(pieces, ("320x180", "90x180"), strict=True)):
        white = f"color=white:s={size}:r=10:d=2"
        ffmpeg("-f", "lavfi", "-i", white, "-pix_fmt", "yuv420p", "-output_ts_offset", str(2 * number), str(piece))
    source = joined(tmp_path / "source.ts", *pieces)
    assert encode(source).duration_seconds == pytest.approx(4, abs=0.2)
    left = gray(top(source), "crop=100:180:0:0,scale=1:1:flags=area")
    assert (left[5], left[35]) == (pytest.approx(255, abs=4), pytest.approx(0, abs=4))


def test_sound_that_changes_its_layout_and_rate_goes_on(tmp_path: Path) -> None:
    pieces = [tmp_path / "a.ts", tmp_path / "b.ts"]
    for number, (piece, form) in enumerate(zip(pieces, (("48000", "2"), ("44100", "1")), strict=True)):
        tone = ("-f", "lavfi", "-i", "sine=f=440:d=2", "-ar", form[0], "-ac", form[1], "-c:a", "mp2")
        ffmpeg(*tone, "-output_ts_offset", str(2 * number), str(piece))
    source = joined(tmp_path / "source.ts", *pieces)
    assert encode(source).duration_seconds == pytest.approx(4, abs=0.2)
    assert silences(tmp_path / "out" / "audio.m3u8") == 0


def silences(file: Path) -> int:
    command = [tools.find().ffmpeg, "-hide_banner", "-i", str(file), "-af", "silencedetect=n=-50dB:d=0.1"]
    said = subprocess.run([*command, "-f", "null", "-"], check=True, capture_output=True, text=True).stderr
    return said.count("silence_start")


def test_joined_recordings_whose_clock_jumps_back_come_one_after_another(tmp_path: Path) -> None:
    piece = numbered(tmp_path / "a.ts", rate="30", frames=60, options=["-bf", "0"])
    source = joined(tmp_path / "source.ts", piece, piece)
    result = encode(source)
    assert any("clock jumps back" in warning for warning in result.receipt["warnings"])
    shown = numbers(top(source), WIDTH, HEIGHT)
    assert sum(1 for number in range(60) if shown.count(number) < 2) <= 1  # at the joint
    assert 119 <= len(shown) <= 124


def with_hole(path: Path, at: int, seconds: int, *, audio: bool) -> Path:
    """150 numbered frames at 30; from frame `at` on they come later, and the sound with them."""
    numbered(path.parent / "whole.mkv", rate="30", frames=150, audio=False)
    late = f"setpts=PTS+gte(N\\,{at})*{seconds}/TB"
    tone = f"sine=f=440:sample_rate=48000:d=5,asetpts=PTS+gte(T\\,{at / 30})*{seconds}/TB"
    sound = ("-f", "lavfi", "-i", tone, "-c:a", "flac") if audio else ()
    ffmpeg(
        *("-i", str(path.parent / "whole.mkv"), *sound, "-vf", late, "-fps_mode", "passthrough"),
        *("-enc_time_base", "1:1000", "-preset", "ultrafast", "-g", "30", "-bf", "0", "-f", "matroska", str(path)),
    )
    return path


@pytest.mark.parametrize("audio", [False, True], ids=["picture", "with sound"])
def test_a_hole_in_all_streams_is_closed_across_every_seam(tmp_path: Path, *, audio: bool) -> None:
    """A hole of a day, in the second of chunks of a second."""
    source = with_hole(tmp_path / "source", 45, 86_400, audio=audio)
    result = encode(source, chunk_seconds=1.0)
    assert result.duration_seconds == pytest.approx(5, abs=0.1)
    shown = numbers(top(source), WIDTH, HEIGHT)
    assert shown == sorted(shown)
    assert set(shown) == set(range(150))
    assert len(shown) <= 153  # the hole ends where the sound does
    if audio:
        assert silences(tmp_path / "out" / "audio.m3u8") == 0


def test_a_hole_that_is_short_enough_is_a_picture_that_stands_still(tmp_path: Path) -> None:
    source = with_hole(tmp_path / "source", 45, 2, audio=True)
    assert encode(source).duration_seconds == pytest.approx(7, abs=0.1)
    shown = numbers(top(source), WIDTH, HEIGHT, on_screen("30", 210))
    assert shown.count(44) == pytest.approx(61, abs=1)
    assert silences(tmp_path / "out" / "audio.m3u8") == 1


@pytest.mark.parametrize("offset", ["10", "-0.5"])
def test_a_clock_that_does_not_begin_at_zero(tmp_path: Path, offset: str) -> None:
    options = ["-output_ts_offset", offset, "-avoid_negative_ts", "disabled", "-copyts", "-use_editlist", "0"]
    source = numbered(tmp_path / "source.mp4", rate="30", frames=100, options=[*options, "-bf", "0"])
    assert encode(source).duration_seconds == pytest.approx(100 / 30, abs=0.2)
    assert numbers(top(source), WIDTH, HEIGHT)[:99] == list(range(99))


def test_an_edit_list_shows_only_what_it_names(tmp_path: Path) -> None:
    numbered(tmp_path / "whole.mp4", rate="30", frames=120, audio=False)
    source = tmp_path / "source.mp4"
    ffmpeg("-ss", "1", "-i", str(tmp_path / "whole.mp4"), "-c", "copy", str(source))
    encode(source)
    assert numbers(top(source), WIDTH, HEIGHT) == list(range(30, 120))


def spoiled(path: Path, begin: float, end: float) -> Path:
    """A share of the file's bytes overwritten."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = b"\x55" * (last - first)
    path.write_bytes(data)
    return path


def test_a_chunk_of_garbage_shows_the_last_picture_before(tmp_path: Path) -> None:
    """Nothing decodes from the middle on: two chunks of three have no picture of their own."""
    options = ["-movflags", "+faststart", "-g", "30", "-bf", "0"]
    source = spoiled(numbered(tmp_path / "source.mp4", rate="30", frames=240, audio=False, options=options), 0.4, 1)
    result = encode(source)
    assert result.receipt["frames"] == 240
    shown = numbers(top(source), WIDTH, HEIGHT, on_screen("30", 240))
    assert shown[:80] == list(range(80))
    assert result.receipt["warnings"]


def test_what_ends_early_is_held_and_warned_about(tmp_path: Path) -> None:
    source = numbered(tmp_path / "source.mkv", rate="30", frames=120, options=["-g", "30"])
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    result = encode(source)
    assert 1 < result.duration_seconds < 4
    assert any("damaged" in warning for warning in result.receipt["warnings"])


def test_sound_that_breaks_in_the_middle_does_not_fail_the_picture(tmp_path: Path) -> None:
    options = ["-c:a", "mp2", "-f", "mpegts"]
    source = numbered(tmp_path / "source", rate="30", frames=90, options=options)
    packets = [bytearray(source.read_bytes()[at : at + 188]) for at in range(0, source.stat().st_size, 188)]
    for packet in packets[len(packets) // 3 :]:
        if (packet[1] & 0x1F) << 8 | packet[2] == 0x101:  # the sound's PID, as ffmpeg numbers them
            packet[40:] = b"\x55" * (188 - 40)
    source.write_bytes(b"".join(packets))
    encode(source)
    assert numbers(top(source), WIDTH, HEIGHT)[:89] == list(range(89))


@pytest.mark.parametrize(
    ("layout", "channels"), [("mono", "1"), ("stereo", "2"), ("5.1", "2"), ("7.1", "2")], ids=["1", "2", "5.1", "7.1"]
)
def test_sound_is_mono_or_stereo(tmp_path: Path, layout: str, channels: str) -> None:
    source = tmp_path / "source.wav"
    ffmpeg("-f", "lavfi", "-i", f"sine=d=1,aformat=channel_layouts={layout}", "-ar", "48000", str(source))
    encode(source)
    init = next((tmp_path / "out").rglob("audio_init.mp4"))
    assert probe(init, "channels") == channels


def probe(file: Path, entry: str) -> str:
    command = [tools.find().ffprobe, "-v", "error", "-show_entries", f"stream={entry}", "-of", "csv=p=0", str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def screen(path: Path) -> Path:
    """Numbered frames at 30, of which only some are there: a recorder that writes what changes."""
    numbered(path.parent / "whole.mkv", rate="30", frames=300, audio=False)
    kept = "lt(mod(n\\,75)\\,40)+not(mod(n\\,7))+eq(n\\,299)"
    ffmpeg(
        *("-i", str(path.parent / "whole.mkv"), "-vf", f"select={kept}", "-fps_mode", "passthrough"),
        *("-preset", "ultrafast", "-g", "20", "-f", "matroska", str(path)),
    )
    return path


def test_a_variable_rate_holds_each_picture_exactly_until_the_next(tmp_path: Path) -> None:
    """Bursts at 30, then nothing for seconds: pictures are on screen across the seams, every third second."""

    def keep(number: int) -> bool:
        return number % 75 < 40 or number % 7 == 0 or number == 299

    source = screen(tmp_path / "source")
    result = encode(source)
    assert result.chunks == 4
    expected = [max(n for n in range(number + 1) if keep(n)) for number in range(300)]
    assert numbers(top(source), WIDTH, HEIGHT, on_screen("30", 300)) == expected
