"""`bench encode`: CPU and wall time of `video-appliance encode` beside the shapes of its peers, in turn.

Camera: a real recording, moving and with the noise of a sensor, at 1920x1080. Ours is everything that the verb does
(loudness, storyboard, poster, playlists, proof), with a chunk on each core; the others only encode. `cascade` is tried
with one x264 thread a rung and with x264's own choice: the better of the two counts. Shaka Streamer gets our rungs at
the rates that ours came to; its preset for files is its own, so both VMAFs stand beside it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from appliance.config import Encode
from tests.benchmarks import cpu, peers, shapes, vmaf
from tests.benchmarks.cpu import Spent
from tests.benchmarks.measure import Figure, Missing, interleaved, median, parser, rounded, tell
from tests.recordings import ffmpeg

CAMERA = "bower-media-samples__big-buck-bunny-480p-30s/video.mp4"
RATE = Fraction(30)
#: (way, of what, at most)
TARGETS = (
    ("separate", "cpu", 0.76),
    ("split", "cpu", 0.95),
    ("cascade", "cpu", 1.03),
    ("cascade", "wall", 1.06),
    ("shaka", "cpu", 0.65),
    ("shaka", "wall", 0.65),
)


def recording(name: str) -> Path:
    """A file of the corpus. Raises Missing."""
    corpus = os.environ.get("CORPUS_DIR")
    if not corpus:
        raise Missing("CORPUS_DIR is not set")
    if not (found := Path(corpus, name)).is_file():
        raise Missing(f"the corpus has no {name}")
    return found


def camera(directory: Path, seconds: float, size: tuple[int, int], *, start: float = 0) -> Path:
    """As a phone would have taken it: a key frame every second, 17 Mbit/s at 1920x1080. Raises Missing.

    The recording's frames one after another at RATE, faster than they were, so that none is shown twice.
    """
    source = recording(CAMERA)
    scale = f"scale={size[0]}:{size[1]}:flags=lanczos,setsar=1"
    graph = f"setpts=N/{RATE}/TB,fps={RATE},{scale},noise=alls=6:allf=t,format=yuv420p"
    made = directory / f"camera-{start:g}.mp4"
    ffmpeg(
        *("-stream_loop", "-1", "-ss", f"{start:g}", "-i", str(source), "-t", f"{seconds:g}", "-vf", graph),
        *("-c:v", "libx264", "-preset", "veryfast", "-b:v", f"{8 * size[0] * size[1]}", "-g", str(RATE)),
        *("-c:a", "aac", str(made)),
    )
    return made


class Bench:
    """One recording, encoded every way; `job` says what into."""

    def __init__(self, job: shapes.Job) -> None:
        self.job = job

    def ours(self) -> Spent:
        self._empty()
        return cpu.run([sys.executable, "-m", "appliance", "encode", self.job.source, "--out", self.job.out])

    def theirs(self, shape: shapes.Shape, threads: int = 0) -> Spent:
        """One command after another, as a queue with one worker runs them."""
        self._empty()
        spent = [cpu.run(command) for command in shape(replace(self.job, threads=threads))]
        return Spent(sum(one.cpu_seconds for one in spent), sum(one.wall_seconds for one in spent))

    def shaka(self, rates: dict[str, int]) -> Spent:
        self._empty()
        program = peers.python("shaka").with_name("shaka-streamer")
        files = self._shaka_files(rates)
        command = [program, *(part for flag, file in files.items() for part in (flag, file)), "-o", self.job.out]
        return cpu.run([peers.python("shaka"), *command], cwd=self.job.out.parent)

    def _shaka_files(self, rates: dict[str, int]) -> dict[str, Path]:
        source = str(self.job.source)
        sizes = {
            rung.name: {"max_width": rung.width, "max_height": rung.height, "bitrates": {"h264": f"{rates[rung.name]}"}}
            for rung in self.job.rungs
        }
        # a rung may be smaller than the source, which it would look for a name for
        shown = {"frame_rate": float(self.job.rate), "resolution": self.job.rungs[0].name}
        streams = [{"name": source, "media_type": "video", **shown}]
        if self.job.sound:
            streams.append({"name": source, "media_type": "audio"})
        written: dict[str, dict[str, Any]] = {
            "-i": {"inputs": [{**stream, "language": "en"} for stream in streams]},
            "-b": {"video_resolutions": sizes},
            "-p": {
                "streaming_mode": "vod", "resolutions": [*sizes], "channel_layouts": ["stereo"],
                "audio_codecs": ["aac"], "video_codecs": ["h264"], "manifest_format": ["dash", "hls"],
                "segment_size": 6, "segment_per_file": True,
            },
        }  # fmt: skip
        files = {flag: self.job.out.parent / f"shaka{flag}.yaml" for flag in written}
        for flag, file in files.items():
            file.write_text(yaml.safe_dump(written[flag]))
        return files

    def shaka_top(self) -> Path:
        """The playlist of the highest rung that Shaka Streamer made."""
        named = f"video_{self.job.rungs[0].name}_"
        return next(path for path in self.job.out.glob("stream_*.m3u8") if named in path.read_text())

    def rates(self) -> dict[str, int]:
        """Bits a second of each rung that lies in `out` now."""
        found = {}
        for rung in self.job.rungs:
            size = sum(path.stat().st_size for path in self.job.out.rglob(f"{rung.name}*") if path.suffix != ".m3u8")
            found[rung.name] = round(8 * size / self.job.seconds)
        return found

    def quality(self, top: Path) -> float:
        """VMAF of the top rung, every fifth frame."""
        rung, frames = self.job.rungs[0], int(self.job.seconds * self.job.rate)
        step = self.job.encode.ladder[0]
        chain = vmaf.ours(self.job.source, self.job.encode.ladder)
        pair = vmaf.Pair(self.job.source, top, top, self.job.rate, step, (rung.width, rung.height), frames, chain)
        return median(vmaf.scores(top, pair, 5).values())

    def _empty(self) -> None:
        shutil.rmtree(self.job.out, ignore_errors=True)
        self.job.out.mkdir(parents=True)


@cache
def without_shaka() -> str:
    """Why Shaka Streamer cannot be had here; nothing where it can."""
    try:
        peers.python("shaka")
    except Missing as error:
        return str(error)
    return ""


def measured(bench: Bench, rounds: int) -> tuple[dict[str, list[Spent]], dict[str, Any], str]:
    """What each way took, what is said of Shaka Streamer's rates and VMAF, and why it is not among them."""
    found = interleaved(
        {
            "separate": partial(bench.theirs, shapes.separate),
            "split": partial(bench.theirs, shapes.split),
            "cascade, x264's threads": partial(bench.theirs, shapes.cascade),
            "cascade, one thread": partial(bench.theirs, shapes.cascade, 1),
            "ours": bench.ours,  # last: what it made is looked at
        },
        rounds,
    )
    rates = bench.rates()
    said: dict[str, Any] = {"kbit/s": [rate // 1000 for rate in rates.values()]}
    if absent := without_shaka():
        return found, said, absent
    said["our VMAF"] = bench.quality(next(bench.job.out.glob(f"{bench.job.rungs[0].name}.m3u8")))
    found["shaka"] = [bench.shaka(rates)]  # once: it takes longer than everything else, and is far from the bound
    said["its VMAF"] = bench.quality(bench.shaka_top())
    return found, said, ""


def compared(found: dict[str, list[Spent]], said: dict[str, Any], absent: str) -> Iterator[Figure]:
    for way, what, target in TARGETS:
        name = f"encode, camera, {what} against {way}"
        taken = {name: _seconds(spent, what) for name, spent in found.items() if name.startswith((way, "ours"))}
        if len(taken) == 1:
            yield Figure(name, None, target, why=absent)
            continue
        best = min(median(times) for who, times in taken.items() if who != "ours")
        raw = {f"{who} s": rounded(times, 2) for who, times in taken.items()}
        yield Figure(name, median(taken["ours"]) / best, target, raw={**raw, **(said if way == "shaka" else {})})


def _seconds(spent: list[Spent], what: str) -> list[float]:
    return [one.cpu_seconds if what == "cpu" else one.wall_seconds for one in spent]


def figures(directory: Path, *, seconds: float, size: tuple[int, int], rounds: int) -> Iterator[Figure]:
    try:
        source = camera(directory, seconds, size)
    except Missing as error:
        for way, what, target in TARGETS:
            yield Figure(f"encode, camera, {what} against {way}", None, target, why=str(error))
        return
    bench = Bench(shapes.Job(source, directory / "out", *size, RATE, seconds, Encode()))
    yield from compared(*measured(bench, rounds))


def main() -> int:
    made = parser("encode", __doc__, rounds=3)
    made.add_argument("--seconds", type=float, default=72.0, help="length of the recording")
    options = made.parse_args()
    small: dict[str, Any] = {"seconds": 3.0, "size": (640, 360), "rounds": 1}
    usual: dict[str, Any] = {"seconds": options.seconds, "size": (1920, 1080), "rounds": options.rounds}
    with tempfile.TemporaryDirectory(prefix="encode-") as directory:
        found = figures(Path(directory), **(small if options.quick else usual))
        return tell(found, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
