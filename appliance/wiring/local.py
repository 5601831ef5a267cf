"""`encode FILE --out DIR`: the same plan, chunks, assembly and proof on one file, with no service at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from appliance.adapters.directory import Directory
from appliance.adapters.ffmpeg import commands, tools
from appliance.config import Config
from appliance.domain.errors import ApplianceError, ConfigError, SourceRejected
from appliance.domain.layout import Layout
from appliance.domain.plan import Plan
from appliance.domain.receipt import Receipt
from appliance.domain.video import Lease, Worker
from appliance.encoder.local import ChunkTable, Colleagues, LocalJob, LocalTask, Progress
from appliance.encoder.pipeline import Fetched, Pipeline
from appliance.encoder.workshop import Hands
from appliance.wiring import engine
from appliance.wiring.host import encoders

#: Below the tree's root.
MEDIA = "media"


@dataclass(frozen=True)
class EncodeResult:
    """How a local encode ended. `master` is a path, empty unless READY."""

    outcome: str
    error_code: str | None
    error_reason: str | None
    master: str
    duration_seconds: float
    rungs: list[str]
    chunks: int
    cpu_seconds: float
    wall_seconds: float
    receipt: Annotated[dict[str, Any], Receipt]


def encode_file(config: Config, file: Path, out: Path, progress: Progress) -> EncodeResult:
    """Encode `file` into `out`/master.m3u8 and the tree it names. A bad file is a FAILED result, not an exception.

    Everything is made and proven in a hidden directory first; what was in `out` under the same names is replaced at the
    end, and nothing else in it is touched. Raises ConfigError when ffmpeg is missing or `out` cannot be written.
    """
    started = time.monotonic()
    job = LocalJob(_lease(file), progress)
    try:
        out.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".encode-", dir=out)
    except OSError as error:
        raise ConfigError([f"{out} cannot be written: {error.strerror}"]) from error
    with scratch as directory:
        tree, work = Path(directory, "tree"), Path(directory, "work")
        try:
            with _pipeline(config, file, tree, work) as (pipeline, colleagues):
                published = pipeline(job)
            job.receipt = colleagues.receipt(job.receipt)
        except ApplianceError as error:
            return _result(job, started, outcome="FAILED", error_code=error.code, error_reason=error.sentence)
        _move(tree, out)
    return _result(
        job,
        started,
        outcome="READY",
        master=str(out / published.hls_path),
        duration_seconds=published.duration_seconds,
    )


def _move(tree: Path, out: Path) -> None:
    for made in tree.iterdir():
        target = out / made.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        made.replace(target)


def _result(job: LocalJob, started: float, **fields: Any) -> EncodeResult:
    wall = time.monotonic() - started
    job.receipt = replace(job.receipt, wall_seconds=wall)
    defaults: dict[str, Any] = {"error_code": None, "error_reason": None, "master": "", "duration_seconds": 0.0}
    return EncodeResult(
        **{**defaults, **fields},
        rungs=list(job.receipt.rungs),
        chunks=job.receipt.chunks_total,
        cpu_seconds=job.receipt.cpu_seconds,
        wall_seconds=wall,
        receipt=job.receipt.to_json(),
    )


def _lease(file: Path) -> Lease:
    return Lease(1, None, str(file), uuid.uuid4(), 1, Worker(os.uname().nodename, "encode"))


@contextmanager
def _pipeline(config: Config, file: Path, tree: Path, work: Path) -> Iterator[tuple[Pipeline, Colleagues]]:
    """With as many chunks at a time as this machine would have encoders."""
    count, _ = encoders(config)
    table = ChunkTable()
    workshop = engine.workshop(config, tools.find(config.ffmpeg.ffmpeg, config.ffmpeg.ffprobe), Directory(tree), table)

    def fetch(job: object, directory: Path) -> Fetched:
        del job
        if not file.is_file():
            raise SourceRejected(f"There is no file {file}.", code="source_missing")
        _link(file, directory / commands.SOURCE)
        status = file.stat()
        return Fetched(f"{status.st_mtime_ns}-{status.st_ino}", status.st_size)

    @contextmanager
    def workspace(lease: Lease) -> Iterator[Path]:
        del lease
        work.mkdir()
        yield work

    def hands(task: LocalTask, plan: Plan, room: Path) -> Hands:
        room.mkdir()
        _link(work / commands.SOURCE, room / commands.SOURCE)
        return Hands(workshop, task, plan, MEDIA, room, outcome="assisted")

    colleagues = Colleagues([work.with_name(f"work-{number}") for number in range(1, count)], hands)
    table.adopted = colleagues.begin
    try:
        pipeline = engine.pipeline(
            config,
            workshop,
            side_by_side=count,
            gzip_playlists=False,
            fetch=fetch,
            workspace=workspace,
            layout=lambda *_: Layout(media=MEDIA, playlists=""),
        )
        yield pipeline, colleagues
    finally:
        colleagues.end()


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(file, target)
