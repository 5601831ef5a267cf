"""Recordings that tests make: frames that carry their number, so that a decoded stream tells which frames it holds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from appliance.adapters.ffmpeg import tools

BITS = 12
WIDTH, HEIGHT = 320, 180
#: Between BLACK and WHITE in luma; a bit is a vertical bar.
WHITE, BLACK, MIDDLE = b"\xeb", b"\x10", 125


def numbered(
    path: Path,
    *,
    rate: str,
    frames: int,
    audio: bool = True,
    sound: str = "sine=frequency=440:sample_rate=48000",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: Iterable[str] = (),
) -> Path:
    """A recording whose frame n shows n as BITS bars. `rate` and `sound` as ffmpeg takes them (`30000/1001`)."""
    width, height = size
    # -t, not -shortest: how much of an endless sound that lets through depends on the machine's load
    seconds = float(frames / Fraction(rate))
    heard = ["-f", "lavfi", "-t", f"{seconds:.6f}", "-i", sound, "-c:a", "aac"] if audio else []
    command = [
        *[tools.find().ffmpeg, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray"],
        *["-s", f"{width}x{height}", "-r", rate, "-i", "pipe:0", *heard],
        *["-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-bf", "2", "-g", "120", "-pix_fmt", "yuv420p"],
        *options,
        str(path),
    ]
    bar = width // BITS
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for number in range(frames):
            row = b"".join((WHITE if number >> bit & 1 else BLACK) * bar for bit in range(BITS))
            process.stdin.write(row.ljust(width, BLACK) * height)
    assert process.returncode == 0
    return path


def numbers(playlist: Path, width: int, height: int, chain: str = "null") -> list[int]:
    """The numbers that the decoded frames of a playlist (or file) show, in order, none dropped or repeated.

    `chain`: filters before that.
    """
    command = [
        *[tools.find().ffmpeg, "-v", "error", "-i", str(playlist), "-map", "0:v:0", "-vf", chain],
        *["-fps_mode", "passthrough"],
        *["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"],
    ]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    size, bar = width * height, width * (WIDTH // BITS) / WIDTH
    middles = [int((bit + 0.5) * bar) for bit in range(BITS)]
    rows = (raw[start + size // 2 : start + size // 2 + width] for start in range(0, len(raw), size))
    return [sum(1 << bit for bit, at in enumerate(middles) if row[at] > MIDDLE) for row in rows]


def lecture(path: Path, *, seconds: int, size: str = "640x360", rate: str = "30") -> Path:
    """A moving test picture with a tone; not numbered, but of any size."""
    command = [
        *[tools.find().ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}"],
        *["-f", "lavfi", "-i", f"sine=frequency=330:sample_rate=44100:d={seconds}", "-c:v", "libx264"],
        *["-preset", "ultrafast", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path)],
    ]
    subprocess.run(command, check=True)
    return path


def ffmpeg(*arguments: str) -> None:
    subprocess.run([tools.find().ffmpeg, "-v", "error", "-nostdin", "-y", *arguments], check=True)


def on_screen(rate: str, frames: int) -> str:
    """A chain of filters: each frame of a grid as a viewer sees it, where repeats are not encoded."""
    held = f"setpts=PTS-STARTPTS,fps={rate}:start_time=0:round=near:eof_action=pass"
    return f"{held},tpad=stop=-1:stop_mode=clone,trim=end_frame={frames}"  # no reader says how long the last one stays


def gray(file: Path, chain: str = "null") -> bytes:
    """All frames of a picture or video after a chain of filters, as grey from 0 (black) to 255 (white)."""
    command = [tools.find().ffmpeg, "-v", "error", "-i", str(file), "-map", "0:v:0", "-vf", f"{chain},format=gray"]
    return subprocess.run([*command, "-f", "rawvideo", "pipe:1"], check=True, capture_output=True).stdout
