"""One chunk: encode, package, upload, done. The same for an owner and for an assistant."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.adapters.ffmpeg import commands, filters
from appliance.adapters.ffmpeg.filters import Bridge
from appliance.adapters.ffmpeg.run import Check, Ended, Limits, run, together
from appliance.adapters.ffmpeg.sandbox import Cage
from appliance.adapters.ffmpeg.starter import Starters
from appliance.adapters.ffmpeg.tools import Tools
from appliance.domain.errors import Transient
from appliance.domain.plan import AAC_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TRACK, Chunk, Mode, Plan
from appliance.encoder.extras import beside
from appliance.encoder.patience import each
from appliance.encoder.ports import Storage
from appliance.encoder.sound import Start, encode_sound
from appliance.streams.segments import ChunkObjects, Cost, Extra, TrackObjects, package

#: Segments never change once written: their path holds the token of the chunk's attempt.
SEGMENT_CACHE = "public, max-age=31536000, immutable"
#: Words of ffmpeg's summary, and of the filter that puts frames on the grid.
ERRORS = re.compile(r"frames decoded; (\d+) decode errors")
FILLED = re.compile(r"Parsed_fps.*frames in, (\d+) frames out")
#: Less is a matter of rounding.
LATE_SECONDS = 0.5
#: By suffix; segments are told apart by their track.
CONTENT_TYPES = {".jpg": "image/jpeg", ".vtt": "text/vtt"}


@dataclass(frozen=True)
class Rules:
    """What an operator set about encoding; seconds and bytes."""

    preset: str
    threads: int
    max_pixels: int
    memory_bytes: int
    stall_seconds: float
    deadline_factor: float
    min_deadline_seconds: float
    cage: Cage = field(default_factory=Cage)
    #: One process's, for all its programs.
    starters: Starters = field(default_factory=Starters, compare=False)

    def limits(self, media_seconds: float) -> Limits:
        """The bounds of one step over this much media."""
        deadline = max(self.min_deadline_seconds, self.deadline_factor * media_seconds)
        return Limits(deadline, self.stall_seconds, self.memory_bytes, self.cage, self.starters)


@dataclass(frozen=True)
class Encoded:
    """A chunk on local disk, packaged: what lies in `directory` is what will lie in storage."""

    chunk: Chunk
    directory: Path
    tracks: tuple[TrackObjects, ...]
    ended: Ended
    #: Seconds of output, over all tracks.
    media_seconds: float
    extras: tuple[Extra, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def bytes_out(self) -> int:
        return sum(self.objects("").sizes().values())

    def objects(self, prefix: str) -> ChunkObjects:
        """What the chunk's row records: where the pieces lie, their sizes and exact durations, and what they cost."""
        extras = tuple(self.extras)
        found = ChunkObjects(self.chunk.number, prefix, self.tracks, extras, warnings=self.warnings)
        cost = Cost(
            cpu_seconds=self.ended.cpu_seconds,
            wall_seconds=self.ended.wall_seconds,
            peak_memory_bytes=self.ended.peak_memory_bytes,
            media_seconds=self.media_seconds,
            bytes_out=sum(found.sizes().values()),
        )
        return replace(found, cost=cost)


def encode(
    tools: Tools,
    rules: Rules,
    plan: Plan,
    chunk: Chunk,
    *,
    directory: Path,
    check: Check,
    on_seconds: Callable[[float], None],
) -> Encoded:
    """Encode and package one chunk of `directory`/source. `on_seconds` hears the media seconds that are out.

    Raises Transient `encode_failed`, `encode_stalled` or `disk_full`, and whatever `check` raises.
    """
    target = directory / f"chunk-{chunk.number}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    limits = rules.limits(float(chunk.frames / plan.grid.rate))
    silent = replace(limits, stall_seconds=limits.deadline_seconds)
    runs: list[Ended] = []

    def start(command: list[str], seen: bool = False) -> Ended:
        on_line = _seconds_of(on_seconds, filters.stretch(plan, chunk)) if seen else None
        bounds = limits if "-progress" in command else silent
        ended = run(command, directory=directory, limits=bounds, check=check, on_line=on_line)
        runs.append(ended)
        return ended

    def make(build: Callable[..., list[str]], *arguments: Any, **options: Any) -> Ended:
        return start(build(tools.ffmpeg, *arguments, max_pixels=rules.max_pixels, **options))

    try:
        if chunk.mode is Mode.SOUND:
            ended = encode_sound(tools.ffmpeg, plan, rules.max_pixels, start)
        elif chunk.mode is Mode.TEXT:
            ended = make(commands.text_chunk, plan)
        else:
            ended = _encode_pictures(tools, rules, plan, chunk, start)
        _refuse_failure(ended, chunk)
        extras = beside(plan, chunk, directory, target, make)
        tracks = _PACKAGED[chunk.mode](plan, chunk, directory, target)
    finally:
        for name in [*(f"{track}.mp4" for track in plan.tracks), commands.EVEN_SOUND]:
            (directory / name).unlink(missing_ok=True)
    media_seconds = float(chunk.frames / plan.grid.rate) * len(tracks)
    return Encoded(chunk, target, tracks, together(runs), media_seconds, extras, _warnings(ended, plan, chunk))


def deliver(encoded: Encoded, storage: Storage, prefix: str, check: Check) -> int:
    """Upload every piece under `prefix` and remove the local copy; returns the bytes sent."""

    def put(path: Path) -> None:
        check()
        audio = path.name.startswith(AUDIO_TRACK)
        storage.put_file(
            f"{prefix}/{path.name}",
            path,
            content_type=CONTENT_TYPES.get(path.suffix, "audio/mp4" if audio else "video/mp4"),
            cache_control=SEGMENT_CACHE,
        )

    each(sorted(encoded.directory.iterdir()), put)
    shutil.rmtree(encoded.directory)
    return encoded.bytes_out


def _encode_pictures(tools: Tools, rules: Rules, plan: Plan, chunk: Chunk, start: Start) -> Ended:
    """Where everything from the chunk's beginning on is garbage, the last picture before is sought and held."""
    for bridge in Bridge:
        ended = start(
            commands.video_chunk(
                tools.ffmpeg,
                plan,
                chunk,
                preset=rules.preset,
                threads=rules.threads,
                max_pixels=rules.max_pixels,
                bridge=bridge,
            ),
            bridge is Bridge.NONE,
        )
        if ended.status < 0 or not chunk.first_frame or _filled(ended):
            break
    return ended


def _filled(ended: Ended) -> int | None:
    """Grid frames that came of decoded pictures; None when the summary is missing."""
    counts = FILLED.findall("\n".join(ended.stderr))
    return int(counts[-1]) if counts else None


def _seconds_of(on_seconds: Callable[[float], None], stretch: int) -> Callable[[str], None]:
    """`stretch`: how many times slower ffmpeg's clock goes."""

    def line(text: str) -> None:
        key, _, value = text.partition("=")
        if key == "out_time_us" and value.strip().isdigit():
            on_seconds(int(value) / 1_000_000 / stretch)

    return line


def _refuse_failure(ended: Ended, chunk: Chunk) -> None:
    if ended.status == 0:
        return
    words = ended.last_words
    if "No space left" in words:
        raise Transient("The encoding host ran out of disk space.", code="disk_full")
    how = f"was killed by signal {-ended.status}" if ended.status < 0 else f"ended with status {ended.status}"
    raise Transient(f"The encoder {how} in chunk {chunk.number}.", code="encode_failed", details=words)


def _package(plan: Plan, chunk: Chunk, directory: Path, target: Path) -> tuple[TrackObjects, ...]:
    assert plan.video is not None
    grid = plan.grid
    ends = [grid.boundary(chunk.first_segment + n) - chunk.first_frame for n in range(chunk.segments + 1)]
    return tuple(
        package(
            directory / f"{rung.name}.mp4",
            target,
            track=rung.name,
            boundaries=ends,
            first_segment=chunk.first_segment,
            start=chunk.first_frame * grid.frame_ticks,
            gop=grid.gop_frames,
            timescale=grid.timescale,
            frame_ticks=grid.frame_ticks,
            stretch=filters.stretch(plan, chunk) if chunk.mode is Mode.REPEATS else 0,
        )
        for rung in plan.video.rungs
    )


def _package_sound(plan: Plan, chunk: Chunk, directory: Path, target: Path) -> tuple[TrackObjects, ...]:
    return (
        package(
            directory / f"{AUDIO_TRACK}.mp4",
            target,
            track=AUDIO_TRACK,
            boundaries=[plan.audio_boundary(segment) for segment in range(plan.grid.segments + 1)],
            first_segment=chunk.first_segment,
            start=0,
            gop=None,
            timescale=AUDIO_RATE,
            frame_ticks=AAC_FRAME_SAMPLES,
            drop_priming=True,
        ),
    )


_PACKAGED: dict[Mode, Callable[[Plan, Chunk, Path, Path], tuple[TrackObjects, ...]]] = {
    Mode.GRID: _package,
    Mode.REPEATS: _package,
    Mode.SOUND: _package_sound,
    Mode.TEXT: lambda *_: (),
}


def _warnings(ended: Ended, plan: Plan, chunk: Chunk) -> tuple[str, ...]:
    """What ffmpeg's summary says of the input: errors it got past are worth a line in the receipt."""
    words = "\n".join(ended.stderr)
    found = []
    errors = sum(int(count) for count in ERRORS.findall(words))
    if errors:
        found.append(f"Chunk {chunk.number}: {errors} frames could not be decoded and were bridged.")
    came = _filled(ended)
    if chunk.pictures and plan.video and came is not None:
        wanted = min(plan.video.frames - chunk.first_frame, chunk.frames)
        missing = float((wanted - came) / plan.grid.rate)
        if missing > LATE_SECONDS:
            found.append(f"Chunk {chunk.number}: its last {missing:.1f} s could not be read and stand still.")
    return tuple(found)
