"""The shapes in which others make a ladder, as commands of the same ffmpeg with the same x264 settings as ours.

Each makes the same rungs with the same key frames, and the sound once, into fragmented MP4: no playlists, no proof, no
storyboard. `separate` is what MediaCMS and PeerTube do (one run for each rung and four minutes), `split` what Encore
does (one decode, every rung scaled from the source), `cascade` the best that is known by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from appliance.adapters.ffmpeg import tools
from appliance.config import Encode
from appliance.domain.media import Rendition, ladder

#: MediaCMS cuts a recording into pieces of this length.
PIECE_SECONDS = 240


@dataclass(frozen=True)
class Job:
    """One recording: `rate` in frames a second, `threads` of each x264 (0: x264's choice)."""

    source: Path
    out: Path
    width: int
    height: int
    rate: Fraction
    seconds: float
    encode: Encode
    threads: int = 0
    sound: bool = True

    @property
    def rungs(self) -> tuple[Rendition, ...]:
        """The appliance's own, largest first."""
        return ladder(self.width, self.height, self.encode.ladder)


Commands = list[list[str]]
Shape = Callable[[Job], Commands]


def separate(job: Job) -> Commands:
    found = []
    for rung in job.rungs:
        for number, start in enumerate(range(0, max(1, int(job.seconds)), PIECE_SECONDS)):
            piece = ["-ss", str(start), "-t", str(PIECE_SECONDS)]
            graph = f"fps={job.rate},{scaled(rung)}"
            options = ["-map", "0:v:0", "-vf", graph, *_x264(job, rung)]
            found.append([*_ffmpeg(job, *piece), *options, str(job.out / f"{rung.name}-{number}.mp4")])
    return [*found, *([[*_ffmpeg(job), *_sound(job)]] if job.sound else [])]


def split(job: Job) -> Commands:
    labels = "".join(f"[s{rung.name}]" for rung in job.rungs)
    branches = ";".join(f"[s{rung.name}]{scaled(rung)}[{rung.name}]" for rung in job.rungs)
    return [_all(job, f"[0:v:0]fps={job.rate},split={len(job.rungs)}{labels};{branches}")]


def cascade(job: Job) -> Commands:
    parts, above = [], f"[0:v:0]fps={job.rate},"
    for number, rung in enumerate(job.rungs, start=1):
        below = "" if number == len(job.rungs) else f"[below{number}]"
        parts.append(f"{above}{scaled(rung)}" + (f",split=2[{rung.name}]{below}" if below else f"[{rung.name}]"))
        above = below
    return [_all(job, ";".join(parts))]


def scaled(rung: Rendition) -> str:
    return f"scale={rung.width}:{rung.height}:flags=bicubic,format=yuv420p"


def _all(job: Job, graph: str) -> list[str]:
    command = [*_ffmpeg(job), "-filter_complex", graph]
    for rung in job.rungs:
        command += ["-map", f"[{rung.name}]", *_x264(job, rung), str(job.out / f"{rung.name}.mp4")]
    return [*command, *(_sound(job) if job.sound else [])]


def _ffmpeg(job: Job, *piece: str) -> list[str]:
    return [tools.find().ffmpeg, "-v", "error", "-nostdin", "-y", *piece, "-i", str(job.source)]


def _x264(job: Job, rung: Rendition) -> list[str]:
    gop = str(round(job.encode.gop_seconds * float(job.rate)))
    return [
        *["-c:v", "libx264", "-preset", job.encode.preset, "-profile:v", "high", "-crf", f"{rung.crf:g}"],
        *["-maxrate", str(rung.maxrate), "-bufsize", str(rung.bufsize), "-bf", "3"],
        *["-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-flags", "+cgop"],
        *(["-threads", str(job.threads)] if job.threads else []),
        *["-movflags", "+frag_keyframe+empty_moov+default_base_moof"],
    ]


def _sound(job: Job) -> list[str]:
    return ["-map", "0:a:0", "-vn", "-c:a", "aac", "-b:a", "128k", "-ac", "2", str(job.out / "sound.mp4")]
