"""Small whole streams, encoded by the real ffmpeg and kept in memory, so that a test can take something away."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg

from appliance.domain.media import AudioStream, LadderStep, Source, VideoStream
from appliance.domain.plan import (
    AAC_FRAME_SAMPLES,
    AUDIO_CHUNK,
    AUDIO_RATE,
    Chunk,
    Mode,
    Packaging,
    Plan,
    Storyboard,
    make_plan,
)
from appliance.domain.stored import Absent, Stored
from appliance.domain.tracks import TextTrack
from appliance.streams import hls
from appliance.streams.presentation import POSTER, poster_key
from appliance.streams.proof import Broken, Expected, Verdict, prove, verify
from appliance.streams.segments import ChunkObjects, Extra, Kind, TrackObjects, package
from appliance.streams.texts import texts

PLAYLISTS = "hls/7/1-attempt"
MEDIA = "hls/7/media/plan"
MASTER = f"{PLAYLISTS}/{hls.MASTER}"
VTT = """WEBVTT
X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000

00:00:00.500 --> 00:00:02.000
Hello

00:00:03.000 --> 00:00:05.700
World
"""
LADDER = (LadderStep(180, 24, 800_000), LadderStep(90, 26, 300_000))
#: As the encoder writes them: fragments that the packager can cut.
FRAGMENTED = [
    *["-map_metadata", "-1", "-bitexact", "-f", "mp4", "-use_editlist", "0"],
    *["-movflags", "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets+skip_sidx"],
]


@dataclass(frozen=True)
class Tree:
    """What lies in storage, key → bytes, and what was promised of it."""

    files: dict[str, bytes]
    expected: Expected

    def prove(self) -> list[Broken]:
        sizes = {key: len(data) for key, data in self.files.items()}
        return prove(self.read, sizes, MASTER, self.expected, readers=1)

    def read(self, key: str, span: tuple[int, int] | None = None) -> Stored:
        if key not in self.files:
            raise Absent("there is no such file")
        data = self.files[key]
        return Stored(data[span[1] : sum(span)] if span else data)

    def verify(self) -> Verdict:
        """As a stranger sees it, without the plan."""
        return verify(self.read, MASTER, readers=1)

    def rules(self) -> set[str]:
        """Names of the rules that are broken."""
        return {broken.rule for broken in self.prove()}

    def text(self, name: str) -> str:
        return self.files[f"{PLAYLISTS}/{name}"].decode()

    def without(self, key: str) -> Tree:
        return replace(self, files={name: data for name, data in self.files.items() if name != key})

    def holding(self, key: str, data: bytes) -> Tree:
        return replace(self, files=self.files | {key: data})

    def saying(self, name: str, text: str) -> Tree:
        return self.holding(f"{PLAYLISTS}/{name}", text.encode())

    def write(self, directory: Path) -> Path:
        """Onto the disk; the master's path."""
        for key, data in self.files.items():
            path = directory / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return directory / MASTER


def plan_of(rate: Fraction, seconds: Fraction, *, video: bool = True, audio: bool = True) -> Plan:
    """Segments of a second in chunks of three."""
    picture = VideoStream(
        0, "h264", 320, 180, Fraction(1), "yuv420p", "", "bt709", "", Fraction(0), seconds, 0, rate, True
    )
    sound = AudioStream(1, "aac", 2, AUDIO_RATE, "eng", Fraction(0), seconds)
    source = Source("mov", picture if video else None, sound if audio else None)
    packaging = Packaging(gop_seconds=0.5, segment_seconds=1.0, chunk_seconds=3.0)
    return make_plan(source, identity={}, steps=LADDER, packaging=packaging)


def encode_video(plan: Plan, chunk: Chunk, directory: Path) -> None:
    """`{rung}.mp4` of the chunk, with B-frames, as the encoder's command has it."""
    assert plan.video is not None
    grid, first = plan.grid, plan.video.rungs[0]
    names = [rung.name for rung in plan.video.rungs]
    graph = (
        f"testsrc2=s={first.width}x{first.height}:r={grid.rate_num}/{grid.rate_den},format=yuv420p,"
        f"trim=start_frame={chunk.first_frame}:end_frame={chunk.first_frame + chunk.frames},setpts=PTS-STARTPTS,"
        f"split={len(names)}" + "".join(f"[in{name}]" for name in names)
    )
    command = []
    for rung in plan.video.rungs:
        graph += f";[in{rung.name}]scale={rung.width}:{rung.height},setsar=1[{rung.name}]"
        command += [
            *["-map", f"[{rung.name}]", "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high"],
            *["-crf", f"{rung.crf:g}", "-maxrate", str(rung.maxrate), "-bufsize", str(rung.bufsize)],
            *["-g", str(grid.gop_frames), "-keyint_min", str(grid.gop_frames), "-sc_threshold", "0"],
            *["-flags", "+cgop", "-bf", "3", "-threads", "1", "-x264-params", "force-cfr=1:stitchable=1"],
            *[*FRAGMENTED, "-video_track_timescale", str(grid.timescale), str(directory / f"{rung.name}.mp4")],
        ]
    ffmpeg("-filter_complex", graph, *command)


def encode_audio(plan: Plan, path: Path, *, frames: int | None = None) -> None:
    samples = (frames or plan.audio_frames) * AAC_FRAME_SAMPLES
    tone = f"sine=frequency=440:sample_rate={AUDIO_RATE},aformat=channel_layouts=stereo,atrim=end_sample={samples}"
    ffmpeg("-filter_complex", f"{tone}[a]", "-map", "[a]", "-c:a", "aac", "-b:a", "96k", *FRAGMENTED, str(path))


def ffmpeg(*arguments: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments], check=True)


def package_video(plan: Plan, chunk: Chunk, rung: str, source: Path, directory: Path) -> TrackObjects:
    ends = [plan.grid.boundary(chunk.first_segment + n) - chunk.first_frame for n in range(chunk.segments + 1)]
    return package(
        source,
        directory,
        track=rung,
        boundaries=ends,
        first_segment=chunk.first_segment,
        start=chunk.first_frame * plan.grid.frame_ticks,
        gop=plan.grid.gop_frames,
        timescale=plan.grid.timescale,
        frame_ticks=plan.grid.frame_ticks,
    )


def package_audio(plan: Plan, source: Path, directory: Path) -> TrackObjects:
    return package(
        source,
        directory,
        track="audio",
        boundaries=[plan.audio_boundary(segment) for segment in range(plan.grid.segments + 1)],
        first_segment=0,
        start=0,
        gop=None,
        timescale=AUDIO_RATE,
        frame_ticks=AAC_FRAME_SAMPLES,
        drop_priming=True,
    )


def make_tree(plan: Plan, directory: Path) -> Tree:
    """Encode, package and publish every chunk of the plan."""
    files: dict[str, bytes] = {}
    chunks = []
    for chunk in plan.chunks:
        objects, packaged = _chunk(plan, chunk, directory / str(chunk.number))
        chunks.append(objects)
        files |= {f"{objects.prefix}/{path.name}": path.read_bytes() for path in packaged.iterdir()}
    return published(Tree(files, Expected(plan, tuple(chunks))))


def _chunk(plan: Plan, chunk: Chunk, directory: Path) -> tuple[ChunkObjects, Path]:
    packaged = directory / "packaged"
    packaged.mkdir(parents=True)
    if chunk.number == AUDIO_CHUNK:
        encode_audio(plan, directory / "audio.mp4")
        tracks = (package_audio(plan, directory / "audio.mp4", packaged),)
    else:
        encode_video(plan, chunk, directory)
        rungs = plan.video.rungs if plan.video else ()
        tracks = tuple(package_video(plan, chunk, r.name, directory / f"{r.name}.mp4", packaged) for r in rungs)
    return ChunkObjects(chunk.number, f"{MEDIA}/{chunk.number}-token", tracks), packaged


def jpeg(width: int, height: int) -> bytes:
    """As much of a picture as says its size."""
    frame = struct.pack(">HHBHHB", 0xFFC0, 8, 8, height, width, 0)
    return b"\xff\xd8" + frame + b"\xff\xda\0\2" + b"\xff\xd9"


def with_extras(tree: Tree) -> Tree:
    """The tree as of a recording with subtitles in two languages: text, storyboard and poster are made up here."""
    board = Storyboard(interval_frames=25, width=160, height=90, columns=2, rows=1)
    plan = tree.expected.plan
    last = max(chunk.number for chunk in plan.chunks) + 1
    text = Chunk(last, 0, plan.grid.segments, 0, plan.grid.frames, Mode.TEXT)
    tracks = (TextTrack("text1", 2, "eng", 'The "first"'), TextTrack("text2", 3, "deu", ""))
    plan = replace(plan, text=tracks, storyboard=board, chunks=(*plan.chunks, text))
    files = {f"{MEDIA}/{last}-token/{track.name}.vtt": VTT.encode() for track in tracks}
    kinds = {f"{track.name}.vtt": (Kind.TEXT, track.name) for track in tracks}
    for chunk in plan.chunks:
        if chunk.mode is Mode.GRID:
            for number in range(1, board.sheets(chunk) + 1):
                files[f"{MEDIA}/{chunk.number}-token/sprite_{number:05d}.jpg"] = jpeg(320, 90)
    files[f"{MEDIA}/1-token/poster.jpg"] = jpeg(640, 360)
    chunks = [*tree.expected.chunks, ChunkObjects(last, f"{MEDIA}/{last}-token", ())]
    rows = [replace(chunk, extras=_extras(chunk.prefix, files, kinds)) for chunk in chunks]
    return published(Tree(tree.files | files, Expected(plan, tuple(rows))))


def _extras(prefix: str, files: dict[str, bytes], kinds: dict[str, tuple[Kind, str]]) -> tuple[Extra, ...]:
    found = []
    for key, data in files.items():
        directory, name = key.rsplit("/", 1)
        if directory == prefix:
            kind, track = kinds.get(name, (Kind.POSTER if name == POSTER else Kind.SPRITE, ""))
            found.append(Extra(name, kind, len(data), track))
    return tuple(found)


def published(tree: Tree) -> Tree:
    """The tree with playlists written from what its chunks recorded."""
    written = texts(tree.expected.plan, tree.expected.chunks, PLAYLISTS)
    poster = poster_key(tree.expected.chunks)
    if poster:
        tree = tree.holding(f"{PLAYLISTS}/{POSTER}", tree.files[poster])
    return replace(
        tree, files=tree.files | {f"{PLAYLISTS}/{name}": text.encode() for name, (text, _) in written.items()}
    )
