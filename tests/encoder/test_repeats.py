"""Frames that only repeat the one before are not encoded: what is on screen, and when, stays the same."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import filters, tools
from appliance.domain.media import LadderStep
from appliance.streams import boxes
from appliance.wiring.local import EncodeResult
from tests.encoder import test_seams
from tests.recordings import HEIGHT, WIDTH, ffmpeg, gray, numbered, numbers, on_screen

#: The screen stands still from the 40th frame of every eighty on.
STILL = "select='lt(mod(n,80),40)'"


def encode(file: Path, out: Path, **changes: object) -> EncodeResult:
    return test_seams.encode(file, out, **changes)


def still(frame: int) -> int:
    return min(frame, frame - frame % 80 + 39)


@pytest.mark.parametrize("rate", ["10", "25", "30000/1001", "30"])
def test_every_frame_is_on_screen_at_its_time_across_every_seam(tmp_path: Path, rate: str) -> None:
    """The variable-rate sibling of the test of numbered frames."""
    source = numbered(
        tmp_path / "source.mkv", rate=rate, frames=250, audio=False, options=["-vf", STILL, "-fps_mode", "vfr"]
    )
    result = encode(source, tmp_path / "out")
    assert result.chunks >= 3
    for width, height in ((WIDTH, HEIGHT), (160, 90)):
        count = result.receipt["frames"]
        shown = numbers(tmp_path / "out" / f"{height}p.m3u8", width, height, on_screen(rate, count))
        assert shown == [still(frame) for frame in range(count)]
    assert result.receipt["frames_dropped"] > 60


def test_sixty_frames_a_second_become_thirty_and_chunks_that_repeat_and_that_do_not_have_one_header(
    tmp_path: Path,
) -> None:
    """Two chunks move all the time, the last one is held in its end."""
    source = numbered(tmp_path / "source.mp4", rate="60", frames=500, audio=False)
    result = encode(source, tmp_path / "out")
    shown = numbers(tmp_path / "out" / f"{HEIGHT}p.m3u8", WIDTH, HEIGHT, on_screen("30", 250))
    assert shown == list(range(0, 500, 2))
    assert len({path.read_bytes() for path in (tmp_path / "out").rglob(f"{HEIGHT}p_init.mp4")}) == 1
    assert result.chunks == 3


@pytest.mark.parametrize("size", ["2x2", "6x30", "31x7"])
def test_a_picture_smaller_than_what_is_compared(tmp_path: Path, size: str) -> None:
    source = tmp_path / "source.mkv"
    ffmpeg("-f", "lavfi", "-i", f"color=white:s={size}:r=10:d=3", "-c:v", "ffv1", str(source))
    assert encode(source, tmp_path / "out").receipt["frames_dropped"] > 10


@pytest.mark.parametrize("edge", ["x=0:y=0", "x=0:y=173", "x=311:y=173", "x=311:y=0"])
def test_a_change_at_the_very_edge_is_seen(tmp_path: Path, edge: str) -> None:
    """Of a size that is no multiple of what is compared, and in the columns that the comparison leaves out."""
    mark = f"crop=319:181,drawbox={edge}:w=8:h=8:color=black:t=fill:enable='gte(t,1.3)'"
    source = page(tmp_path / "source.mkv", f"pad=320:184:0:0:white,{mark}", seconds=3)
    encode(source, tmp_path / "out")
    corner = "crop=8:8:" + edge.replace("y=", "").replace("x=", "") + ",scale=1:1:flags=area"
    shown = gray(next((tmp_path / "out").glob("18*p.m3u8")), f"{on_screen('25', 75)},scale=319:181,{corner}")
    before, after = shown[30], shown[35]
    assert before - after > 60


def test_repeats_of_a_steady_rate_are_found(tmp_path: Path) -> None:
    options = ["-vf", f"{STILL},fps=30:start_time=0", "-bf", "0"]
    source = numbered(tmp_path / "source.mp4", rate="30", frames=240, audio=False, options=options)
    result = encode(source, tmp_path / "out")
    shown = numbers(tmp_path / "out" / f"{HEIGHT}p.m3u8", WIDTH, HEIGHT, on_screen("30", 240))
    assert shown == [still(frame) for frame in range(240)]
    assert result.receipt["frames_dropped"] > 60


def test_a_page_that_never_changes_is_one_frame_a_group(tmp_path: Path) -> None:
    source = page(tmp_path / "source.mkv", "null", seconds=9)
    result = encode(source, tmp_path / "out")
    # groups of twelve frames, and the second frame of each chunk
    assert result.receipt["frames"] - result.receipt["frames_dropped"] == 19 + 4
    assert result.duration_seconds == pytest.approx(9)


def test_a_page_that_never_changes_shows_that_the_encoder_moves() -> None:
    """A line for every eighth frame: what `run` takes for a standstill is that none comes."""
    command = [tools.find().ffmpeg, "-v", "error", "-f", "lavfi", "-i", f"color=r=25:d=1,{filters.ALIVE}"]
    told = subprocess.run([*command, "-f", "null", "-"], check=True, capture_output=True, text=True).stdout
    assert told.count("frame:") == 4


#: A page of text, about: bars of the size of letters on paper.
LETTERS = "gt(Y,110)+mod(X,7)*mod(Y,12)*gt(mod(Y,12),3)"
PAPER = f"color=white:s=320x180:r=25,format=yuv420p,geq=lum='if({LETTERS},235,40)':cb=128:cr=128"


def page(path: Path, chain: str, *, seconds: int = 6) -> Path:
    """A still page and what happens on it, as a screen recorder writes it."""
    ffmpeg("-f", "lavfi", "-i", f"{PAPER},trim=duration={seconds},{chain}", "-c:v", "ffv1", str(path))
    return path


CURSOR = "drawbox=x='20+60*floor(t*4)/4':y=40:w=4:h=10:color=black:t=fill"
TYPING = ",".join(
    f"drawbox=x={10 + 5 * n}:y=100:w=3:h=7:c=gray:t=fill:enable='gte(t,{0.3 * n:.1f})'" for n in range(18)
)
FADE = "fade=t=out:st=1:d=4"


@pytest.mark.parametrize("chain", [CURSOR, TYPING, FADE], ids=["cursor", "typing", "fade"])
def test_every_change_over_the_threshold_is_on_screen_within_one_frame(tmp_path: Path, chain: str) -> None:
    source = page(tmp_path / "source.mkv", chain)
    result = encode(source, tmp_path / "out")
    assert result.receipt["frames_dropped"] > 20
    wanted = frames(gray(source, BLOCKS))
    shown = frames(gray(tmp_path / "out" / f"{HEIGHT}p.m3u8", f"{on_screen('25', len(wanted))},{BLOCKS}"))
    late = [
        n for n, found in enumerate(shown[1:], 1) if min(apart(found, wanted[n]), apart(found, wanted[n - 1])) > MOST
    ]
    assert not late


#: The mean of each 8x8 block.
BLOCKS = "scale=40:22:flags=area"
#: What may differ in it: the threshold, and what encoding costs.
MOST = filters.CHANGED_BLOCK / 64 + 8


def frames(raw: bytes) -> list[bytes]:
    return [raw[at : at + 880] for at in range(0, len(raw), 880)]


def apart(one: bytes, other: bytes) -> int:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_camera_content_is_encoded_as_if_there_were_no_such_thing(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    camera = "testsrc2=s=320x180:r=25:d=6,noise=alls=12:allf=t"
    ffmpeg("-f", "lavfi", "-i", camera, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(source))
    with_it, without = (encode(source, tmp_path / str(on), drop_repeats=on) for on in (True, False))
    assert (with_it.receipt["content"], with_it.receipt["frames_dropped"]) == ("camera", 0)
    assert pieces(tmp_path / "True") == pieces(tmp_path / "False")
    assert without.receipt["frames"] == 150


def pieces(tree: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(tree.rglob("*.m4s"), key=lambda path: path.name)]


def test_a_setting_switches_it_off(tmp_path: Path) -> None:
    source = page(tmp_path / "source.mkv", CURSOR)
    result = encode(source, tmp_path / "out", drop_repeats=False)
    assert result.receipt["frames_dropped"] == 0
    assert len(numbers(tmp_path / "out" / f"{HEIGHT}p.m3u8", WIDTH, HEIGHT)) == result.receipt["frames"]


def test_the_receipt_says_what_was_chosen_and_why(tmp_path: Path) -> None:
    result = encode(page(tmp_path / "source.mkv", CURSOR), tmp_path / "out")
    assert result.receipt["content"] == "screen"
    assert "of the frames repeat" in result.receipt["content_reason"]


def test_still_pages_one_after_another_stay_as_sharp_as_the_first(tmp_path: Path) -> None:
    """x264's rate buffer counts by time, not by frames: thirty key frames in a minute are not thirty in a second."""
    noise = "color=gray:s=320x180:r=25:d=24,format=yuv420p,geq=lum='random(1)*255':cb=128:cr=128,loop=loop=-1:size=1"
    ffmpeg("-f", "lavfi", "-i", noise, "-frames:v", "600", "-c:v", "ffv1", str(tmp_path / "source.mkv"))
    encode(tmp_path / "source.mkv", tmp_path / "out", chunk_seconds=60.0, ladder=(LadderStep(HEIGHT, 20, 1_600_000),))
    sizes = [len(data) for data in keys(tmp_path / "out", f"{HEIGHT}p")]
    assert min(sizes[:-2]) > 0.8 * max(sizes)  # the last ones are referred to by nothing


def keys(tree: Path, rung: str) -> list[bytes]:
    """The first picture of each group."""
    found = []
    init = boxes.read_init(next(tree.rglob(f"{rung}_init.mp4")).read_bytes())
    for path in sorted(tree.rglob(f"{rung}_*.m4s"), key=lambda path: path.name):
        data = path.read_bytes()
        for fragment in boxes.read_fragments(data, init):
            sample = next(iter(fragment.samples))
            found.append(data[sample.offset : sample.offset + sample.size])
    return found


def test_chunks_with_and_without_repeats_have_one_header_which_tells_the_truth(tmp_path: Path) -> None:
    """Half a minute of movement, then a page that stands still: fixed_frame_rate_flag is 0, the clock the grid's."""
    moving = tmp_path / "moving.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=9", "-vf", "tpad=stop_duration=9:stop_mode=clone",
           "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "40", str(moving))  # fmt: skip
    result = encode(moving, tmp_path / "out")
    assert result.receipt["frames_dropped"] == pytest.approx(225 - 18, abs=5)
    inits = {path.read_bytes() for path in (tmp_path / "out").rglob(f"{HEIGHT}p_init.mp4")}
    assert len(inits) == 1
    command = [tools.find().ffmpeg, "-v", "trace", "-i", str(tmp_path / "out" / f"{HEIGHT}p.m3u8"), "-c", "copy"]
    said = subprocess.run(
        [*command, "-bsf:v", "trace_headers", "-frames:v", "1", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    values = {name: said.split(name)[1].split("=")[1].split()[0] for name in ("num_units_in_tick", "time_scale")}
    assert int(values["time_scale"]) == 50 * int(values["num_units_in_tick"])
    assert said.split("fixed_frame_rate_flag")[1].split("=")[1].split()[0] == "0"


def test_nothing_is_decoded_later_than_it_is_shown(tmp_path: Path) -> None:
    source = numbered(
        tmp_path / "source.mkv", rate="30", frames=150, audio=False, options=["-vf", STILL, "-fps_mode", "vfr"]
    )
    encode(source, tmp_path / "out")
    init = boxes.read_init(next((tmp_path / "out").rglob(f"{HEIGHT}p_init.mp4")).read_bytes())
    for path in (tmp_path / "out").rglob(f"{HEIGHT}p_0*.m4s"):
        samples = [sample for fragment in boxes.read_fragments(path.read_bytes(), init) for sample in fragment.samples]
        assert all(sample.composition >= 0 for sample in samples)
        assert all(early.decode_time < late.decode_time for early, late in pairwise(samples))


def test_the_rows_say_how_many_frames_there_are(tmp_path: Path) -> None:
    result: EncodeResult = encode(page(tmp_path / "source.mkv", CURSOR), tmp_path / "out")
    command = [tools.find().ffprobe, "-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets"]
    said = subprocess.run(
        [*command, "-of", "json", str(tmp_path / "out" / f"{HEIGHT}p.m3u8")], capture_output=True, check=True
    ).stdout
    (count,) = {stream["nb_read_packets"] for stream in json.loads(said)["streams"]}
    assert int(count) == result.receipt["frames"] - result.receipt["frames_dropped"]
