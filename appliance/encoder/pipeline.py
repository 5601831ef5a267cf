"""One video as a straight line: fetch, probe, plan, chunks, assemble, prove. The caller completes the row.

Every step takes values and returns values; what may end the job from outside (a lost lease, a cancel, a drain) arrives
as an exception of `job.check()` or `job.may_begin()` and passes through.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

from appliance.adapters.ffmpeg.probe import Probe
from appliance.domain.errors import Transient
from appliance.domain.layout import Layout
from appliance.domain.loudness import Loudness
from appliance.domain.media import LadderStep, Source
from appliance.domain.plan import Packaging, Plan, make_plan, recipe
from appliance.domain.receipt import WARNINGS, Chapter
from appliance.domain.stored import Stored
from appliance.domain.tracks import Screens
from appliance.domain.video import Lease
from appliance.encoder.missing import Missing
from appliance.encoder.patience import STORAGE_SECONDS, aside, each, insist
from appliance.encoder.ports import Job
from appliance.encoder.progress import ENCODE_FROM, ENCODE_TO, account, report
from appliance.encoder.workshop import Hands, Workshop
from appliance.streams import hls, proof
from appliance.streams.presentation import POSTER, poster_key, published_rungs
from appliance.streams.segments import ChunkObjects
from appliance.streams.texts import texts

#: Playlists of one attempt never change, but hls_path may name another attempt's tomorrow: players ask again soon.
PLAYLIST_CACHE = "public, max-age=60"
#: Rounds of proof and redo before the job gives up: a PUT that is lost twice is not bad luck.
PROOFS = 3


class Settings(TypedDict):
    """What an operator set about streams, as `make_plan` takes it."""

    steps: tuple[LadderStep, ...]
    packaging: Packaging
    loudness: Loudness | None
    screens: Screens


@dataclass(frozen=True)
class Fetched:
    """The source in the job's directory, as `source`. `etag` names its bytes; `cached`: this host had it already."""

    etag: str
    size_bytes: int
    cached: bool = False

    @property
    def bytes_in(self) -> int:
        """What was fetched for it."""
        return 0 if self.cached else self.size_bytes


@dataclass(frozen=True)
class Published:
    """A whole stream that lies in storage; `complete` makes it the video's."""

    hls_path: str
    duration_seconds: float


def _master(layout: Layout) -> str:
    """What `hls_path` will name."""
    return posixpath.join(layout.playlists, hls.MASTER)


def _chapters(source: Source, plan: Plan) -> tuple[Chapter, ...]:
    """On the output's timeline; those that lie outside are left out."""
    whole = float(plan.grid.duration_seconds)
    placed = [
        (max(0.0, float(plan.output_seconds(it.start_seconds))), float(plan.output_seconds(it.end_seconds)), it.title)
        for it in source.chapters
    ]
    return tuple(Chapter(start, min(end, whole), title) for start, end, title in placed if start < min(end, whole))


class Pipeline:
    """Turns a claimed video into a proven stream. Made once per process; `__call__` per job."""

    def __init__(
        self,
        *,
        workshop: Workshop,
        probe: Probe,
        steps: tuple[LadderStep, ...],
        packaging: Packaging,
        loudness: Loudness | None,
        screens: Screens,
        gzip_playlists: bool,
        fetch: Callable[[Job, Path], Fetched],
        workspace: Callable[[Lease], AbstractContextManager[Path]],
        layout: Callable[[Lease, Plan], Layout],
    ) -> None:
        self._workshop = workshop
        self._probe = probe
        self._settings: Settings = {
            "steps": steps,
            "packaging": packaging,
            "loudness": loudness,
            "screens": screens,
        }
        self._gzip_playlists = gzip_playlists
        self._fetch = fetch
        self._workspace = workspace
        self._layout = layout

    def __call__(self, job: Job) -> Published:
        with self._workspace(job.lease) as directory:
            report(job, "fetch", 0)
            fetched = aside(partial(job.may_begin, None), partial(self._fetch, job, directory))
            report(job, "probe", ENCODE_FROM)
            plan = self._plan(job, fetched, directory)
            layout = self._layout(job.lease, plan)
            insist(job, lambda: self._workshop.chunks.adopt(job.lease, plan, self._workshop.tools.build))
            for _ in range(PROOFS):
                Missing(Hands(self._workshop, job, plan, layout.media, directory), job).encode()
                chunks = self._finished(job, plan)
                job.receipt = replace(job.receipt, rungs=published_rungs(plan, chunks))
                insist(job, partial(self._write_playlists, job, plan, layout, chunks), seconds=STORAGE_SECONDS)
                broken = insist(job, partial(self._prove, job, plan, layout, chunks), seconds=STORAGE_SECONDS)
                if not broken:
                    return Published(_master(layout), float(plan.grid.duration_seconds))
                self._redo(job, broken)
        raise Transient("The finished stream was not whole and was not published.", code="proof_failed")

    def _plan(self, job: Job, fetched: Fetched, directory: Path) -> Plan:
        """The plan that an earlier attempt made of the same bytes, else a new one; what of it stands in the receipt."""
        identity = {
            "etag": fetched.etag,
            "size_bytes": fetched.size_bytes,
            "generation": job.lease.finished_epoch,
            "preset": self._workshop.rules.preset,
            "ffmpeg": self._workshop.tools.build,
        }
        name = recipe(**identity, **self._settings, probe=self._probe.settings)
        known = insist(job, lambda: self._workshop.chunks.known_plan(job.lease, name))
        plan = known or replace(self._made(job, identity, directory), recipe=name)
        plan = replace(plan, source_etag=fetched.etag, source_bytes=fetched.size_bytes)
        for sentence in plan.warnings:
            job.warn(sentence)
        job.receipt = replace(
            job.receipt,
            media_seconds=float(plan.grid.duration_seconds),
            source_bytes=fetched.size_bytes,
            bytes_in=fetched.bytes_in,
            rungs=plan.rungs,
            chunks_total=len(plan.chunks),
            content=plan.video.content if plan.video else "",
            content_reason=plan.video.why if plan.video else "",
            frames=plan.grid.frames if plan.video else 0,
            chapters=plan.chapters,
            ffmpeg_build=self._workshop.tools.build,
        )
        return plan

    def _made(self, job: Job, identity: dict[str, object], directory: Path) -> Plan:
        source = self._probe(directory, job.check, partial(account, job))
        plan = make_plan(source, identity=identity, **self._settings)
        return replace(plan, chapters=_chapters(source, plan), warnings=source.warnings[:WARNINGS])

    def _finished(self, job: Job, plan: Plan) -> list[ChunkObjects]:
        """What all chunks of the plan recorded, in the order of the presentation."""
        found = insist(job, lambda: self._workshop.chunks.done_chunks(job.lease, plan.fingerprint))
        rows = sorted(found, key=lambda chunk: chunk.number)
        chunks = [ChunkObjects.from_json(row.number, row.objects) for row in rows]
        # Assistants and earlier attempts told only the rows what they cost and what they warned of.
        warnings = (sentence for chunk in chunks for sentence in chunk.warnings)
        job.receipt = job.receipt.warned(*warnings).finished(chunk.cost for chunk in chunks)
        shown = sum(piece.samples for chunk in chunks for piece in chunk.segments(plan.rungs[0]))
        dropped = plan.grid.frames - shown if plan.video else 0
        job.receipt = replace(job.receipt, frames_dropped=dropped)
        return chunks

    def _write_playlists(self, job: Job, plan: Plan, layout: Layout, chunks: list[ChunkObjects]) -> None:
        """The poster and the texts, the master last; nobody looks at any of them before `complete` names it."""
        report(job, "publish", ENCODE_TO)
        storage, files, poster = self._workshop.storage, texts(plan, chunks, layout.playlists), poster_key(chunks)

        def put(name: str, data: bytes, content_type: str, *, gzip: bool) -> None:
            job.check()
            key = posixpath.join(layout.playlists, name)
            storage.put_bytes(key, data, content_type=content_type, cache_control=PLAYLIST_CACHE, gzip=gzip)

        def write(name: str) -> None:
            text, content_type = files[name]
            put(name, text.encode(), content_type, gzip=self._gzip_playlists)

        def copy(key: str) -> None:
            put(POSTER, storage.read(key).data, "image/jpeg", gzip=False)

        first = [partial(copy, poster)] if poster else []
        each([*first, *(partial(write, name) for name in files if name != hls.MASTER)], lambda made: made())
        write(hls.MASTER)

    def _prove(self, job: Job, plan: Plan, layout: Layout, chunks: list[ChunkObjects]) -> list[proof.Broken]:
        """Read everything back from where students will read it."""
        report(job, "prove", (ENCODE_TO + 100) / 2)

        def read(key: str, span: tuple[int, int] | None) -> Stored:
            job.check()
            return self._workshop.storage.read(key, span)

        directories = [posixpath.join(place, "") for place in (*(chunk.prefix for chunk in chunks), layout.playlists)]
        lists = each(directories, self._workshop.storage.sizes)
        sizes = {key: size for found in lists for key, size in found.items()}
        return proof.prove(read, sizes, _master(layout), proof.Expected(plan, tuple(chunks)))

    def _redo(self, job: Job, broken: list[proof.Broken]) -> None:
        """Chunks that hold something broken are encoded again; without one to blame, the playlists are written anew."""
        for sentence in sorted({finding.sentence for finding in broken})[:5]:
            job.warn(f"The proof failed: {sentence}")
        for number in sorted({finding.chunk for finding in broken if finding.chunk is not None}):
            insist(job, partial(self._workshop.chunks.redo, job.lease, number))
            job.receipt = job.receipt.plus(chunks_redone=1)
