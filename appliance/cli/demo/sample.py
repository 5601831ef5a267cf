"""A lecture-like recording: slides that are typed while somebody speaks, and a pointer that moves over them.

The text comes from ffmpeg's own teletype (`tty` demuxer, `ansi` decoder, CGA font), so it looks the same on a host
without a single font, and every render with one ffmpeg gives the same bytes.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from appliance.domain.errors import ApplianceError

RATE = 30
SLIDE_SECONDS = 6
#: Characters of the teletype per second; its escape sequences count as well.
TYPING_RATE = 60
#: Does nothing, four characters long: time passes.
PAUSE = "\x1b[0m"
DEADLINE_SECONDS = 120.0

SLIDES: tuple[tuple[str, ...], ...] = (
    ("Lecture 1: Queues and leases", "A queue lets one side be fast", "and the other be slow.", "Workers may die."),
    ("A lease is a promise with an end", "take(video)  -> token", "renew(token) -> every 20 s", "0 rows: it is gone"),
    ("Little's law", "L = lambda * W", "12 videos/h * 0.5 h = 6 of them in the system", "Six encoders never idle."),
    ("Homework", "1. Kill a worker at half the film.", "2. Count what was done twice.", "3. Explain: one chunk."),
)

#: Black on white, pixels doubled to 1280×704 and framed to 720.
BOARD = "negate,scale=1280:704:flags=neighbor,pad=1280:720:0:8:color=white,format=yuv420p"
POINTER = "overlay=x='640+420*sin(t*0.9)':y='360+220*sin(t*1.3)':eval=frame"
#: A low tone with the rhythm of syllables, pauses for breath, and a quiet room around it.
VOICE = (
    "0.12*sin(2*PI*(140+25*sin(2*PI*0.7*t))*t)*(0.5+0.5*sin(2*PI*3.1*t))*gt(sin(2*PI*0.23*t),-0.8)"
    "+0.004*(random(0)-0.5)"
)


def render(ffmpeg: str, file: Path, slides: tuple[tuple[str, ...], ...] = SLIDES) -> Path:
    """Write `file` (MP4, 1280×720, 30 frames/s, SLIDE_SECONDS for each slide) and return its path."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as text:
        text.write("".join(map(_typed, slides)).encode("ascii"))
        text.flush()
        command = [ffmpeg, *_arguments(text.name, len(slides) * SLIDE_SECONDS), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    if done.returncode != 0:
        raise ApplianceError(f"The sample could not be rendered: {done.stderr.strip()[-500:]}", code="encode_failed")
    return file


def _typed(slide: tuple[str, ...]) -> str:
    """Exactly SLIDE_SECONDS of typing: clear, a bold title, a line every fourth row, then pauses."""
    title, *lines = slide
    text = f"\x1b[2J\x1b[3;6H\x1b[1;33m{title}\x1b[0m"
    text += "".join(f"\x1b[{7 + 4 * row};8H{line}" for row, line in enumerate(lines))
    length = SLIDE_SECONDS * TYPING_RATE
    assert len(text) <= length, f"the slide {title!r} takes longer to type than it is shown"
    text += " " * (-len(text) % len(PAUSE))
    return text + PAUSE * ((length - len(text)) // len(PAUSE))


def _arguments(text: str, seconds: int) -> list[str]:
    teletype = ["-f", "tty", "-framerate", str(RATE), "-video_size", "640x352", "-chars_per_frame", str(TYPING_RATE)]
    pointer = ["-f", "lavfi", "-i", f"color=c=0xE0603C:s=14x14:r={RATE}"]
    voice = ["-f", "lavfi", "-i", f"aevalsrc='{VOICE}':s=48000"]
    graph = ["-filter_complex", f"[0:v]{BOARD}[board];[board][1:v]{POINTER}[picture]"]
    streams = ["-map", "[picture]", "-map", "2:a"]
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1"]
    audio = ["-c:a", "aac", "-b:a", "96k"]
    repeatable = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"]
    inputs = ["-nostdin", "-v", "error", "-y", *teletype, "-i", text, *pointer, *voice]
    return [*inputs, *graph, *streams, "-t", str(seconds), *video, *audio, *repeatable]
