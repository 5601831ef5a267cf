"""Streams of ours as teachers' recordings make them, small, and what a player must find in each."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from appliance.adapters.ffmpeg import tools
from appliance.config import Config, Encode
from appliance.domain.media import LadderStep
from appliance.wiring.local import EncodeResult, encode_file
from tests.recordings import numbered

#: Several segments in several chunks, in a stream of nine seconds.
SMALL = Config(
    encode=Encode(
        ladder=(LadderStep(180, 28, 400_000), LadderStep(90, 30, 200_000)),
        preset="ultrafast",
        gop_seconds=1.0,
        segment_seconds=2.0,
        chunk_seconds=4.0,
    )
)
SECONDS = 9
#: What a lecture lasts: 200 segments a rung, where indexes that round drift apart.
LONG_SECONDS = 1200
LONG = Config(encode=Encode(ladder=(LadderStep(90, 30, 200_000),), preset="ultrafast"))
#: (start, end, text) of the subtitled recording.
CUES = [(0.5, 2.0, "A queue"), (3.0, 5.5, "A lease"), (6.0, 8.0, "A proof")]
#: The screen stands still from the 10th frame of every twenty on.
STILL = "select='lt(mod(n,20),10)'"


@dataclass(frozen=True)
class Stream:
    """A finished stream. `rate` is that of the recording's frames, which carry numbers; 0 where there is no picture."""

    directory: Path
    result: EncodeResult
    rate: float
    size: tuple[int, int] = (320, 180)
    audio: bool = True
    still: bool = False
    cues: bool = False
    #: Whether it is played to its end; else only looked into.
    whole: bool = True
    seeks: tuple[float, ...] = (7.3, 0.4, 4.02, 8.5, 2.71)

    def number_at(self, seconds: float) -> int:
        """The number of the frame that must be on screen then."""
        frame = int(seconds * self.rate + 1e-3)
        return min(frame, frame - frame % 20 + 9) if self.still else frame


def streams(directory: Path) -> dict[str, Stream]:
    """One of each kind."""
    makers = (camera, screen, portrait, audio_only, subtitled, long)
    return {maker.__name__: maker(directory / maker.__name__) for maker in makers}


def camera(home: Path) -> Stream:
    home.mkdir()
    file = numbered(home / "camera.mp4", rate="30000/1001", frames=SECONDS * 30)
    return Stream(home / "out", encoded(file, home / "out"), 30000 / 1001)


def screen(home: Path) -> Stream:
    """Variable frame rate, and nobody speaks."""
    home.mkdir()
    options = ["-vf", STILL, "-fps_mode", "vfr"]
    file = numbered(home / "screen.mkv", rate="10", frames=SECONDS * 10, audio=False, options=options)
    return Stream(home / "out", encoded(file, home / "out"), 10, audio=False, still=True)


def portrait(home: Path) -> Stream:
    """As a phone writes it: the sensor's picture lies on its side, and the file says so."""
    home.mkdir()
    lying = numbered(
        home / "lying.mp4", rate="25", frames=SECONDS * 25, size=(180, 320), options=["-vf", "transpose=clock"]
    )
    file = home / "portrait.mp4"
    _ffmpeg("-display_rotation", "90", "-i", lying, "-c", "copy", file)
    return Stream(home / "out", encoded(file, home / "out"), 25, size=(180, 320))


def audio_only(home: Path) -> Stream:
    home.mkdir()
    file = home / "sound.m4a"
    _ffmpeg("-f", "lavfi", "-i", f"sine=frequency=330:sample_rate=44100:d={SECONDS}", "-c:a", "aac", file)
    return Stream(home / "out", encoded(file, home / "out"), 0, size=(0, 0))


def subtitled(home: Path) -> Stream:
    home.mkdir()
    picture = numbered(home / "plain.mp4", rate="25", frames=SECONDS * 25)
    lines = [f"{n}\n{_srt(start)} --> {_srt(end)}\n{text}\n" for n, (start, end, text) in enumerate(CUES, 1)]
    (home / "text.srt").write_text("\n".join(lines))
    file = home / "subtitled.mkv"
    language = ["-metadata:s:s:0", "language=eng"]
    _ffmpeg("-i", picture, "-i", home / "text.srt", "-map", "0", "-map", "1", "-c", "copy", *language, file)
    return Stream(home / "out", encoded(file, home / "out"), 25, cues=True)


def long(home: Path) -> Stream:
    """A picture a second and silence: cheap to encode, and every second has its number."""
    home.mkdir()
    silence = "anullsrc=sample_rate=48000:channel_layout=mono"
    options = ["-c:a", "flac"]  # quicker to write and to read than AAC
    file = numbered(home / "long.mkv", rate="1", frames=LONG_SECONDS, sound=silence, size=(160, 90), options=options)
    seeks = (1190.5, 3.2, 700.3, 903.7, 1198.6)
    return Stream(home / "out", encoded(file, home / "out", LONG), 1, size=(160, 90), whole=False, seeks=seeks)


def encoded(file: Path, out: Path, config: Config = SMALL) -> EncodeResult:
    result = encode_file(config, file, out, lambda *progress: None)
    assert result.outcome == "READY", result.error_reason
    return result


def _srt(seconds: float) -> str:
    return f"00:00:{seconds:06.3f}".replace(".", ",")


def _ffmpeg(*arguments: object) -> None:
    subprocess.run([tools.find().ffmpeg, "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)
