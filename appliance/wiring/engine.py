"""The engine from the configuration: the same in the appliance and in `encode`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from appliance.adapters.ffmpeg.probe import Probe
from appliance.adapters.ffmpeg.tools import Tools
from appliance.config import Config
from appliance.domain.layout import Layout
from appliance.domain.loudness import Loudness
from appliance.domain.plan import Packaging, Plan
from appliance.domain.tracks import Screens
from appliance.domain.video import Lease
from appliance.encoder.chunk import Rules
from appliance.encoder.pipeline import Fetched, Pipeline
from appliance.encoder.ports import ChunkStore, Job, Storage
from appliance.encoder.workshop import Workshop
from appliance.wiring.cage import cage


def workshop(config: Config, tools: Tools, storage: Storage, chunks: ChunkStore) -> Workshop:
    """What chunks are made with, one's own and others'."""
    return Workshop(tools, rules(config), storage, chunks)


def pipeline(
    config: Config,
    workshop: Workshop,
    *,
    side_by_side: int = 1,
    gzip_playlists: bool,
    fetch: Callable[[Job, Path], Fetched],
    workspace: Callable[[Lease], AbstractContextManager[Path]],
    layout: Callable[[Lease, Plan], Layout],
) -> Pipeline:
    """What turns a video into a stream; the arguments are what differs between a host and a desk."""
    encode = config.encode
    return Pipeline(
        workshop=workshop,
        probe=Probe(
            workshop.tools,
            workshop.rules.limits(0),
            config.ffmpeg.max_pixels,
            config.ffmpeg.max_duration_seconds,
            encode.close_gaps_seconds,
            encode.drop_repeats or bool(encode.screen_preset or encode.screen_tune or encode.screen_crf),
        ),
        steps=encode.ladder,
        packaging=Packaging(
            encode.gop_seconds, encode.segment_seconds, encode.chunk_seconds, encode.sprite_seconds, side_by_side
        ),
        loudness=Loudness(encode.loudness_lufs, encode.true_peak_db) if encode.loudness else None,
        screens=Screens(encode.drop_repeats, encode.screen_preset, encode.screen_tune, encode.screen_crf),
        gzip_playlists=gzip_playlists,
        fetch=fetch,
        workspace=workspace,
        layout=layout,
    )


def rules(config: Config) -> Rules:
    """What every ffmpeg run keeps to."""
    ffmpeg = config.ffmpeg
    return Rules(
        preset=config.encode.preset,
        threads=ffmpeg.threads,
        max_pixels=ffmpeg.max_pixels,
        memory_bytes=ffmpeg.memory_bytes,
        stall_seconds=ffmpeg.stall_seconds,
        deadline_factor=ffmpeg.deadline_factor,
        min_deadline_seconds=ffmpeg.min_deadline_seconds,
        cage=cage(config),
    )
