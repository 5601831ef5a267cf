"""What is published of a plan: the rungs that are worth it, their segments where players find them, text and pictures.

All that is told to players (hls.py, dash.py, storyboard.py) is written from this, so that it cannot disagree.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from appliance.domain.plan import AUDIO_TRACK, Plan
from appliance.domain.tracks import TextTrack
from appliance.streams import languages
from appliance.streams.rates import NOTHING, Rates, measure, target_duration
from appliance.streams.segments import ChunkObjects, Extra, Kind, Segment, TrackObjects

#: Of two rungs whose averages lie this near, the lower one is not worth a switch.
NEAR = Fraction(15, 100)
#: Rungs that always stay, so that a player has something to fall back on.
LEAST_RUNGS = 2
#: The picture that stands for the video, beside the master.
POSTER = "poster.jpg"


@dataclass(frozen=True)
class Piece:
    """A segment where a playlist finds it: `uri` relative to the playlist, `duration` in seconds."""

    uri: str
    duration: Fraction
    segment: Segment
    timescale: int


@dataclass(frozen=True)
class Written:
    """One track of the whole presentation: the first chunk's description and everybody's segments."""

    objects: TrackObjects
    map_uri: str
    pieces: tuple[Piece, ...]

    def rates(self, target: int) -> Rates:
        return measure([(piece.segment.size_bytes, piece.duration) for piece in self.pieces], target)


@dataclass(frozen=True)
class Subtitle:
    """A WebVTT file for the whole presentation. `language` is a player's tag; `name` is unique among the subtitles."""

    track: TextTrack
    uri: str
    size_bytes: int
    language: str
    name: str


@dataclass(frozen=True)
class Picture:
    """A cell of a sprite sheet: pixels from the sheet's corner, shown for the frames of the grid from `first` on."""

    uri: str
    x: int
    y: int
    first: int
    last: int


@dataclass(frozen=True)
class Presentation:
    """`rungs` are the published ones, highest first; `tracks` holds them and the sound, by name."""

    plan: Plan
    rungs: tuple[str, ...]
    tracks: dict[str, Written]
    #: Seconds, the same for all media playlists (RFC 8216 §6.2.4).
    target: int
    subtitles: tuple[Subtitle, ...]
    pictures: tuple[Picture, ...]

    @property
    def sound(self) -> Written | None:
        return self.tracks.get(AUDIO_TRACK)

    @property
    def audio_rates(self) -> Rates:
        return self.sound.rates(self.target) if self.sound else NOTHING

    @classmethod
    def of(cls, plan: Plan, chunks: Sequence[ChunkObjects], directory: str) -> Presentation:
        """What all of the plan's chunks give, seen from the key `directory`."""
        rungs = published_rungs(plan, chunks)
        names = [name for name in plan.tracks if name in rungs or name == AUDIO_TRACK]
        tracks = {name: _track(name, chunks, directory) for name in names}
        return cls(
            plan=plan,
            rungs=tuple(name for name in rungs if name != AUDIO_TRACK),
            tracks=tracks,
            target=max(target_duration([piece.duration for piece in track.pieces]) for track in tracks.values()),
            subtitles=_subtitles(plan, chunks, directory),
            pictures=_pictures(plan, chunks, directory),
        )


def published_rungs(plan: Plan, chunks: Sequence[ChunkObjects]) -> tuple[str, ...]:
    """The plan's rungs without those that cost nearly what the one above them costs: never the top, two at least.

    Where all the lower ones would go, the lowest stays: it is what the weakest connection needs.
    """
    costs = {name: sum(size for chunk in chunks for size in _sizes(chunk, name)) for name in plan.rungs}
    kept = list(plan.rungs[:1])
    for name in plan.rungs[1:]:
        if costs[name] < costs[kept[-1]] * (1 - NEAR):
            kept.append(name)
    if len(kept) < LEAST_RUNGS:
        kept += plan.rungs[-1:] if len(plan.rungs) > 1 else ()
    return tuple(kept)


def _sizes(chunk: ChunkObjects, name: str) -> list[int]:
    return [segment.size_bytes for track in chunk.tracks if track.track == name for segment in track.segments]


def _track(name: str, chunks: Sequence[ChunkObjects], directory: str) -> Written:
    """The track in the order of the presentation."""
    ordered = sorted(chunks, key=lambda chunk: chunk.number)
    found = [(chunk.prefix, track) for chunk in ordered for track in chunk.tracks if track.track == name]
    pieces = [
        Piece(
            posixpath.relpath(f"{prefix}/{segment.name}", directory),
            Fraction(segment.duration, track.timescale),
            segment,
            track.timescale,
        )
        for prefix, track in found
        for segment in track.segments
    ]
    prefix, first = found[0]
    return Written(first, posixpath.relpath(f"{prefix}/{first.init_name}", directory), tuple(pieces))


def extras(chunks: Sequence[ChunkObjects], kind: Kind) -> list[tuple[str, Extra]]:
    """(key, file) of every file of this kind, in the order of the chunks and of their names."""
    ordered = sorted(chunks, key=lambda chunk: chunk.number)
    return [
        (f"{chunk.prefix}/{extra.name}", extra)
        for chunk in ordered
        for extra in sorted(chunk.extras, key=lambda extra: extra.name)
        if extra.kind is kind
    ]


def poster_key(chunks: Sequence[ChunkObjects]) -> str | None:
    """Where the poster lies that was made with the chunks."""
    return next((key for key, _ in extras(chunks, Kind.POSTER)), None)


def _subtitles(plan: Plan, chunks: Sequence[ChunkObjects], directory: str) -> tuple[Subtitle, ...]:
    files = {extra.track: (key, extra) for key, extra in extras(chunks, Kind.TEXT)}
    found: list[Subtitle] = []
    for track in plan.text:
        if track.name in files:
            key, extra = files[track.name]
            language = languages.tag(track.language)
            name = _quotable(track.title) or language
            if name in {other.name for other in found}:
                name = f"{name} ({track.name})"
            found.append(Subtitle(track, posixpath.relpath(key, directory), extra.size_bytes, language, name))
    return tuple(found)


def _quotable(title: str) -> str:
    """A quoted string of a playlist holds no quote and no line end (RFC 8216 §4.2)."""
    return " ".join("".join(char if char.isprintable() and char != '"' else " " for char in title).split())


def _pictures(plan: Plan, chunks: Sequence[ChunkObjects], directory: str) -> tuple[Picture, ...]:
    """Every picture of the storyboard, in order; those of a chunk begin with its first sheet."""
    board = plan.storyboard
    if board is None:
        return ()
    sheets = {chunk.number: [key for key, _ in extras([chunk], Kind.SPRITE)] for chunk in chunks}
    found = []
    for chunk in plan.chunks:
        keys = sheets.get(chunk.number, [])
        per_sheet, end = board.columns * board.rows, chunk.first_frame + chunk.frames
        for number in range(min(board.pictures(chunk), len(keys) * per_sheet)):
            row, column = divmod(number % per_sheet, board.columns)
            first = chunk.first_frame + number * board.interval_frames
            uri = posixpath.relpath(keys[number // per_sheet], directory)
            last = min(first + board.interval_frames, end)
            found.append(Picture(uri, column * board.width, row * board.height, first, last))
    return tuple(found)
