"""`bench screen`: recordings of screens, where only what changes is encoded, beside the best cascade by hand.

Five recordings of the folder that CORPUS_DIR names, the short ones played again until they last some time, because a
start costs the same whatever follows. The cascade gets a constant rate: the average that the container tells, or 30 a
second where it tells none or more; `at its own rate` is against the rate that the packets come to. Ours is everything
that the verb does. Bytes are those of the pictures; VMAF is the top rung's mean, every fifth frame of each encode's own
grid, against the source in the colours of that encode. Shaka Streamer gets our rungs at the rates that ours came to.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from appliance.adapters.ffmpeg import tools
from appliance.config import Encode
from tests.benchmarks import shapes, vmaf
from tests.benchmarks.cpu import Spent
from tests.benchmarks.encode import Bench, recording, without_shaka
from tests.benchmarks.measure import Figure, Missing, interleaved, median, parser, rounded, tell
from tests.recordings import ffmpeg

#: Recordings and what the CPU time of each may be of the cascade's.
RECORDINGS = {
    "2i2c-org__jupyterhub-usage-quotas/demo.mp4": 1.03,
    "freckletonj__uniteai/screencast.webm": 0.35,
    "opengisch__qfield-geomapfish-locator/screencast.webm": 1.03,
    "HDembinski__monolens/demo.mov": 1.03,
    "AirtestProject__Airtest/demo.mp4": 1.03,
}
#: Of the five: the medians of CPU time and bytes, and of the points of VMAF above the cascade's.
CPU, BYTES, VMAF = 0.80, 1.05, -0.3
#: The medians of CPU and wall time, of Shaka Streamer's.
SHAKA = 0.65
FASTEST = Fraction(30)


@dataclass(frozen=True)
class Facts:
    """What ffprobe tells of a recording; `told` is the container's average rate, 0 where it has none."""

    width: int
    height: int
    seconds: float
    told: Fraction
    packets: int
    sound: bool

    @property
    def rate(self) -> Fraction:
        return min(FASTEST, self.told or FASTEST)

    @property
    def own_rate(self) -> Fraction:
        return min(FASTEST, Fraction(round(self.packets / self.seconds)))

    @classmethod
    def of(cls, path: Path) -> Facts:
        entries = "stream=codec_type,width,height,avg_frame_rate,nb_read_packets:format=duration"
        command = [tools.find().ffprobe, "-v", "error", "-count_packets", "-of", "json"]
        answer = json.loads(
            subprocess.run([*command, "-show_entries", entries, str(path)], check=True, capture_output=True).stdout
        )
        kinds = [stream["codec_type"] for stream in answer["streams"]]
        stream = answer["streams"][kinds.index("video")]
        over, under = map(int, stream["avg_frame_rate"].split("/"))
        return cls(
            stream["width"],
            stream["height"],
            float(answer["format"]["duration"]),
            Fraction(over, under) if under else Fraction(0),
            int(stream["nb_read_packets"]),
            "audio" in kinds,
        )


@dataclass(frozen=True)
class Beside:
    """One recording, ours and Shaka Streamer's: CPU and wall time as ratios, VMAF of both."""

    cpu: float
    wall: float
    ours: float
    its: float


@dataclass(frozen=True)
class Compared:
    """One recording, ours and the cascade's: CPU time and bytes as ratios, VMAF in points above."""

    name: str
    cpu: float
    bytes: float
    vmaf: float
    raw: dict[str, Any]
    shaka: Beside | None


def long_enough(source: Path, directory: Path, seconds: float) -> Path:
    """The recording again and again until it lasts so long, its packets as they are."""
    times = math.ceil(seconds / Facts.of(source).seconds)
    made = directory / f"source{source.suffix}"
    tracks = ["-map", "0:v:0", "-map", "0:a:0?", "-c", "copy"]
    ffmpeg("-stream_loop", str(max(0, times - 1)), "-i", str(source), *tracks, str(made))
    return made


def compare(name: str, directory: Path, seconds: float, rounds: int, *, shaka: bool) -> Compared:
    """Raises Missing."""
    original = recording(name)
    directory.mkdir()
    source, told = long_enough(original, directory, seconds), Facts.of(original)
    length = Facts.of(source).seconds
    even = (told.width // 2 * 2, told.height // 2 * 2)
    jobs = {
        which: Bench(shapes.Job(source, directory / which, *even, rate, length, Encode(), sound=told.sound))
        for which, rate in {"cascade": told.rate, "at its own rate": told.own_rate, "ours": told.rate}.items()
    }
    ways = {which: partial(bench.theirs, shapes.cascade, 1) for which, bench in jobs.items()}
    found = interleaved({**ways, "ours": jobs["ours"].ours}, rounds)
    times = {which: [one.cpu_seconds for one in spent] for which, spent in found.items()}
    sizes = {which: sum(bench.rates().values()) for which, bench in jobs.items()}
    here, there, top = jobs["ours"], jobs["cascade"], jobs["ours"].job.rungs[0]
    playlist = here.job.out / f"{top.name}.m3u8"
    ours = quality(here, playlist, grid(here.job.out), vmaf.ours(source, here.job.encode.ladder), Fraction(1, 8))
    cascade = quality(there, there.job.out / f"{top.name}.mp4", there.job.rate, shapes.scaled(top), Fraction(0))
    raw = {
        **{f"{which} s": rounded(spent, 2) for which, spent in times.items()},
        "bytes": round(sizes["ours"] / sizes["cascade"], 3),
        "VMAF": rounded([ours, cascade], 2),
        "cascade's rate": float(told.rate),
        "of its own rate's CPU": round(median(times["ours"]) / median(times["at its own rate"]), 3),
    }
    return Compared(
        name.partition("/")[0].partition("__")[2],
        median(times["ours"]) / median(times["cascade"]),
        sizes["ours"] / sizes["cascade"],
        ours - cascade,
        raw,
        beside_shaka(here, found["ours"], ours, directory / "shaka") if shaka else None,
    )


def beside_shaka(ours: Bench, spent: list[Spent], vmaf: float, directory: Path) -> Beside:
    """Shaka Streamer runs once: it takes longer than everything else, and is far from the bound."""
    bench = Bench(replace(ours.job, out=directory))
    its = bench.shaka(ours.rates())
    # as it scales: 1139 columns become 1140
    scaled = f"scale=-2:{ours.job.rungs[0].height}:flags=bicubic,format=yuv420p"
    return Beside(
        median(one.cpu_seconds for one in spent) / its.cpu_seconds,
        median(one.wall_seconds for one in spent) / its.wall_seconds,
        vmaf,
        quality(bench, bench.shaka_top(), bench.job.rate, scaled, Fraction(0)),
    )


def quality(bench: Bench, top: Path, rate: Fraction, chain: str, early: Fraction) -> float:
    """Mean VMAF of the top rung against the source on a grid, after a chain of filters."""
    rung = bench.job.rungs[0]
    size, step = (rung.width, rung.height), bench.job.encode.ladder[0]
    pair = vmaf.Pair(bench.job.source, top, top, rate, step, size, 0, chain, early)
    return fmean(vmaf.scores(top, pair, 5).values())


def grid(out: Path) -> Fraction:
    """FRAME-RATE of the master playlist, exact again."""
    text = (out / "master.m3u8").read_text()
    return Fraction(text.partition("FRAME-RATE=")[2].partition(",")[0].split()[0]).limit_denominator(1001)


def figures(directory: Path, seconds: float, rounds: int) -> Iterator[Figure]:
    found = []
    for number, (name, target) in enumerate(RECORDINGS.items()):
        what = f"encode, screen, cpu of {name.partition('/')[0].partition('__')[2]}"
        try:
            recording(name)  # before a peer is fetched for it
            found.append(one := compare(name, directory / str(number), seconds, rounds, shaka=not without_shaka()))
        except Missing as error:
            yield Figure(what, None, target, why=str(error))
            continue
        yield Figure(what, one.cpu, target, raw=one.raw)
    why = "" if len(found) == len(RECORDINGS) else "not all of the recordings are here"
    for what, values, target in (
        ("cpu", [one.cpu for one in found], CPU),
        ("bytes", [one.bytes for one in found], BYTES),
        ("VMAF above the cascade's", [one.vmaf for one in found], VMAF),
    ):
        yield Figure(
            f"encode, screen, median {what}", None if why else median(values), target, target < 0, why,
            {"each": rounded(values)},
        )  # fmt: skip
    yield from against_shaka([one.shaka for one in found if one.shaka], why or without_shaka())


def against_shaka(found: list[Beside], why: str) -> Iterator[Figure]:
    vmafs = {"our VMAF": rounded([one.ours for one in found], 1), "its VMAF": rounded([one.its for one in found], 1)}
    for what, ratios in (("cpu", [one.cpu for one in found]), ("wall", [one.wall for one in found])):
        raw = {"each": rounded(ratios), **vmafs}
        name = f"encode, screen, median {what} against shaka"
        yield Figure(name, None if why else median(ratios), SHAKA, why=why, raw=raw)


def main() -> int:
    made = parser("screen", __doc__, rounds=3)
    made.add_argument("--seconds", type=float, default=100.0, help="shorter recordings are played again")
    options = made.parse_args()
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    with tempfile.TemporaryDirectory(prefix="screen-") as directory:
        return tell(figures(Path(directory), seconds, rounds), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
