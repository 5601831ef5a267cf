"""`bench vmaf [FILE …]`: what cutting into chunks costs in quality, against one uncut encode at the same settings.

VMAF of the top rung, every fifth frame of the whole (five divides the GOP, so every IDR is seen) and every frame around
each seam. Reference and both encodes go through one chain: the source on the plan's grid, at the rung's size.
Without a FILE: two recordings of the folder that CORPUS_DIR names, else one made here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

from appliance.adapters.ffmpeg import commands, filters, tools
from appliance.adapters.ffmpeg.probe import Probe
from appliance.adapters.ffmpeg.run import Limits
from appliance.config import Config, Encode
from appliance.domain.content import Content
from appliance.domain.media import LadderStep
from appliance.domain.tracks import VideoTrack, video_track
from appliance.wiring.local import encode_file
from tests.recordings import lecture

#: Points of VMAF that the mean, and any frame near a seam, may lie below the uncut encode's.
MEAN_TARGET, SEAM_TARGET = -0.5, -3.0
#: Frames on each side of a seam that are looked at one by one.
NEAR = 12
CORPUS = ("bower-media-samples__big-buck-bunny-480p-30s/video.mp4", "2i2c-org__jupyterhub-usage-quotas/demo.mp4")
#: A chunk is one segment: as many seams as there can be.
SETTINGS = Encode(chunk_seconds=6.0)


@dataclass(frozen=True)
class Line:
    """One target. `value` in points of VMAF below (negative) or above the uncut encode."""

    name: str
    ratio: float
    value: float
    target: float
    ok: bool
    chunked: float
    uncut: float
    frames: int


@dataclass(frozen=True)
class Pair:
    """One recording, encoded both ways in `directory`."""

    source: Path
    chunked: Path
    uncut: Path
    rate: Fraction
    step: LadderStep
    size: tuple[int, int]
    frames: int
    #: From the source's frames to what is encoded.
    chain: str
    #: Of a frame of the grid, how much earlier a frame of the source may come and still be the one; ours is an eighth.
    early: Fraction = Fraction(1, 8)

    @property
    def reference(self) -> str:
        """The chain from the source to what is encoded, as the appliance's grid has it."""
        phase = self.early / self.rate
        return (
            f"setpts=PTS-STARTPTS+{float(phase)}/TB,fps=fps={self.rate}:start_time=0:round=near,{self.chain},setsar=1"
        )


def ours(source: Path, steps: tuple[LadderStep, ...]) -> str:
    """What the appliance does to the source's frames before it encodes the highest rung."""
    return chain(planned(source, steps))


def chain(track: VideoTrack) -> str:
    """The filters before its highest rung."""
    return ",".join(filters.top(track, track.rungs[0]))


def planned(source: Path, steps: tuple[LadderStep, ...]) -> VideoTrack:
    """The source's pictures as the appliance's plan has them."""
    found = tools.find()
    with tempfile.TemporaryDirectory(prefix="probe-") as directory:
        shutil.copy(source, Path(directory, commands.SOURCE))  # its cage lets it read nothing outside
        probe = Probe(found, Limits(600, 600, 8 << 30), Config().ffmpeg.max_pixels, 86400, looks=True)
        track = video_track(probe(Path(directory), lambda: None, lambda _: None).video, steps, None, Fraction(30), 1)
    assert track is not None
    return track


def measure(source: Path, directory: Path, settings: Encode = SETTINGS) -> list[Line]:
    """Encode both ways and compare: the mean of the whole, the worst frame near a seam."""
    pair = encode(source, directory, settings)
    every = [(scores(path, pair, 5)) for path in (pair.chunked, pair.uncut)]
    chunked, uncut = (sum(found.values()) / len(found) for found in every)
    lines = [line(f"{source.name}: mean", chunked, uncut, MEAN_TARGET, len(every[0]))]
    step = round(settings.chunk_seconds * pair.rate)
    seams = range(step, pair.frames, step)
    if seams:
        near = [frame for seam in seams for frame in range(seam - NEAR, min(seam + NEAR, pair.frames))]
        ours, theirs = (scores(path, pair, 1, near) for path in (pair.chunked, pair.uncut))
        worst = min(ours, key=lambda number: ours[number] - theirs[number])
        name = f"{source.name}: frame {near[worst]}, the worst near {len(seams)} seams"
        lines.append(line(name, ours[worst], theirs[worst], SEAM_TARGET, len(near)))
    return lines


def line(name: str, chunked: float, uncut: float, target: float, frames: int) -> Line:
    value = chunked - uncut
    return Line(name, chunked / max(uncut, 0.001), value, target, value >= target, chunked, uncut, frames)


def encode(source: Path, directory: Path, settings: Encode) -> Pair:
    """The appliance's top rung in chunks, and ffmpeg's in one go."""
    top = settings.ladder[0]
    size, rate, frames = played(source, directory / "chunked", settings)
    step = next((step for step in settings.ladder if step.short_side <= min(size)), top)
    name = next((directory / "chunked").glob(f"{min(size)}p.m3u8"))
    track = planned(source, settings.ladder)
    pair = Pair(source, name, directory / "uncut.mp4", rate, step, size, frames, chain(track))
    gop = round(settings.gop_seconds * rate)
    own = commands.SCREEN.get(settings.preset, []) if track.content is Content.SCREEN else []
    ffmpeg(
        *("-i", str(source), "-an", "-vf", pair.reference, "-c:v", "libx264", "-preset", settings.preset),
        *(
            "-profile:v",
            "high",
            "-crf",
            f"{step.crf:g}",
            "-maxrate",
            str(step.maxrate),
            "-bufsize",
            str(2 * step.maxrate),
        ),
        *("-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", "0", "-flags", "+cgop", "-bf", "3"),
        *("-threads", "1", "-x264-params", ":".join(["force-cfr=1", *own]), "-frames:v", str(frames), str(pair.uncut)),
    )
    return pair


def played(source: Path, out: Path, settings: Encode) -> tuple[tuple[int, int], Fraction, int]:
    """Encode with the appliance; size, rate and frames of the top rung."""
    result = encode_file(Config(encode=replace(settings, sprite_seconds=0)), source, out, lambda *_: None)
    assert result.outcome == "READY", result.error_reason
    playlist = out / f"{result.rungs[0]}.m3u8"
    entries = "stream=width,height,r_frame_rate,nb_read_packets"
    command = [tools.find().ffprobe, "-v", "error", "-count_packets", "-select_streams", "v:0"]
    answer = subprocess.run(
        [*command, "-show_entries", entries, "-of", "json", str(playlist)], check=True, capture_output=True
    ).stdout
    (stream,) = json.loads(answer)["streams"]
    return (stream["width"], stream["height"]), Fraction(stream["r_frame_rate"]), int(stream["nb_read_packets"])


def scores(encoded: Path, pair: Pair, every: int, only: list[int] | None = None) -> dict[int, float]:
    """VMAF by the number of the compared frame: of `only` these frames, else of all."""
    log = encoded.with_suffix(f".{every}.json")
    ranges = "+".join(f"between(n\\,{first}\\,{last})" for first, last in spans(only)) if only else "1"
    clock = f"select={ranges},settb=AVTB,setpts=N/{pair.rate}/TB"
    held = f"setpts=PTS-STARTPTS,fps=fps={pair.rate}:round=near"  # where repeats were dropped
    graph = (
        f"[0:v]{held},{clock}[encoded];[1:v]{pair.reference},{clock}[source];"
        f"[encoded][source]libvmaf=n_threads=2:n_subsample={every}:log_fmt=json:log_path={log}:shortest=1"
    )
    ffmpeg("-i", str(encoded), "-i", str(pair.source), "-filter_complex", graph, "-an", "-f", "null", "-")
    return {frame["frameNum"]: frame["metrics"]["vmaf"] for frame in json.loads(log.read_text())["frames"]}


def spans(numbers: list[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def ffmpeg(*arguments: str) -> None:
    subprocess.run([tools.find().ffmpeg, "-v", "error", "-nostdin", "-y", *arguments], check=True)


def recordings(asked: list[Path], scratch: Path) -> list[Path]:
    corpus = os.environ.get("CORPUS_DIR", "")
    if asked or corpus:
        return asked or [Path(corpus, name) for name in CORPUS]
    return [lecture(scratch / "made.mp4", seconds=20, size="1280x720")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="install.sh bench vmaf", description=__doc__)
    parser.add_argument("file", nargs="*", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    ok = True
    with tempfile.TemporaryDirectory(prefix="vmaf-") as scratch:
        for number, source in enumerate(recordings(options.file, Path(scratch))):
            directory = Path(scratch, str(number))
            directory.mkdir()
            for found in measure(source, directory):
                ok &= found.ok
                print(json.dumps(asdict(found)) if options.json else words(found), flush=True)
    return 0 if ok else 1


def words(found: Line) -> str:
    verdict = "ok" if found.ok else "MISSED"
    return (
        f"{verdict:6} {found.name}: {found.chunked:.2f} in chunks, {found.uncut:.2f} uncut, "
        f"{found.value:+.2f} (target {found.target:+.1f}; {found.frames} frames)"
    )


if __name__ == "__main__":
    sys.exit(main())
