"""What lies beside a chunk's segments: the storyboard's sheets, the poster, the subtitles."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from appliance.adapters.ffmpeg import commands
from appliance.domain.errors import Transient
from appliance.domain.media import Rendition
from appliance.domain.plan import Chunk, Mode, Plan
from appliance.domain.tracks import GRID_TICKS
from appliance.encoder.patience import each
from appliance.streams import webvtt
from appliance.streams.segments import Extra, Kind

#: Runs what one of the builders in `commands` builds of these arguments, in the chunk's working directory; from any
#: thread.
Make = Callable[..., object]


def beside(plan: Plan, chunk: Chunk, directory: Path, target: Path, make: Make) -> tuple[Extra, ...]:
    """Move or make what belongs into `target`, from what the chunk's run left in `directory`.

    Sheets and poster are made side by side: both are short, and whoever waits for the video waits for both.
    """
    if chunk.mode is Mode.TEXT:
        return _text(plan, directory, target)
    if chunk.mode is Mode.SOUND:
        if plan.video:
            return ()
        make(commands.wave)
        return (_moved(directory / commands.POSTER, target, Kind.POSTER),)
    sheets, poster = each([_sheets, _poster], lambda made: made(plan, chunk, directory, target, make))
    return (*sheets, *poster)


def _sheets(plan: Plan, chunk: Chunk, directory: Path, target: Path, make: Make) -> tuple[Extra, ...]:
    if plan.video is None or plan.storyboard is None:
        return ()
    make(commands.sprites, plan.video.rungs[-1], plan.storyboard, plan.grid.gop_frames)
    numbers = range(1, plan.storyboard.sheets(chunk) + 1)
    return tuple(_moved(directory / f"sprite_{number:05d}.jpg", target, Kind.SPRITE) for number in numbers)


def _poster(plan: Plan, chunk: Chunk, directory: Path, target: Path, make: Make) -> tuple[Extra, ...]:
    if chunk.first_frame:
        return ()
    rung = _poster_rung(plan)
    make(commands.poster, rung, any_picture=False)
    if not (directory / commands.POSTER).exists():  # all of it is black
        make(commands.poster, rung, any_picture=True)
    return (_moved(directory / commands.POSTER, target, Kind.POSTER),)


def _poster_rung(plan: Plan) -> Rendition:
    """The highest that a poster need not be scaled down from."""
    assert plan.video is not None
    rungs = plan.video.rungs
    return next((rung for rung in rungs if min(rung.width, rung.height) <= commands.POSTER_SHORT), rungs[-1])


def _text(plan: Plan, directory: Path, target: Path) -> tuple[Extra, ...]:
    """One WebVTT file for the whole presentation per track."""
    begin = Fraction(plan.origin_ticks, GRID_TICKS) - commands.TEXT_LEAD

    def place(seconds: Fraction) -> Fraction:
        return plan.output_seconds(seconds + begin)

    found = []
    for track in plan.text:
        raw = directory / f"{track.name}.raw"
        said = raw.read_text("utf-8", errors="replace") if raw.exists() else ""
        raw.unlink(missing_ok=True)
        text = webvtt.moved(said, place, plan.grid.duration_seconds)
        data = text.encode()
        (target / f"{track.name}.vtt").write_bytes(data)
        found.append(Extra(f"{track.name}.vtt", Kind.TEXT, len(data), track.name))
    return tuple(found)


def _moved(made: Path, target: Path, kind: Kind) -> Extra:
    if not made.exists():
        raise Transient(f"The encoder wrote no {made.name}.", code="encode_failed")
    size = made.stat().st_size
    made.replace(target / made.name)
    return Extra(made.name, kind, size)
