"""The bucket after the run: what every READY row names is there, and what is proven is whole."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from appliance.adapters.s3 import S3
from appliance.domain.plan import Plan
from appliance.streams import proof
from appliance.streams.segments import ChunkObjects
from tests.chaos.checker import Violation

Query = Callable[..., list[dict[str, Any]]]


@dataclass
class Read:
    proven: int = 0
    objects: int = 0
    violations: list[Violation] = field(default_factory=list)


def check(query: Query, storage: S3, *, real: set[int], sample: int, seed: int) -> Read:
    """Every recorded object of each READY video by its size; the proof for all real ones and a sample of the others."""
    read = Read()
    rows = query("SELECT id, hls_path FROM video WHERE status = 'READY' ORDER BY id")
    sizes = storage.sizes("hls/")
    fakes = [row["id"] for row in rows if row["id"] not in real]
    chosen = real | set(random.Random(seed).sample(fakes, min(sample, len(fakes))))
    for row in rows:
        plan, chunks = _stream(query, row["id"])
        read.violations += [Violation("bucket", f"video {row['id']}: {text}") for text in _there(row, chunks, sizes)]
        read.objects += sum(len(chunk.sizes()) for chunk in chunks)
        if row["id"] in chosen:
            read.proven += 1
            read.violations += [
                Violation("proof", f"video {row['id']}: {text}") for text in _proven(row, plan, chunks, sizes, storage)
            ]
    return read


def _stream(query: Query, video_id: int) -> tuple[Plan, list[ChunkObjects]]:
    """The plan by which the published stream was made, and its chunks."""
    plan = query(
        "SELECT p.plan, p.fingerprint FROM video v JOIN video_plan p ON p.video_id = v.id AND p.fingerprint = v.plan"
        " WHERE v.id = %s",
        video_id,
    )[0]
    rows = query(
        "SELECT number, objects FROM video_chunk WHERE video_id = %s AND plan = %s AND state = 'DONE' ORDER BY number",
        video_id,
        plan["fingerprint"],
    )
    chunks = [ChunkObjects.from_json(row["number"], row["objects"]) for row in rows]
    return Plan.from_json({**plan["plan"], "fingerprint": plan["fingerprint"]}), chunks


def _there(row: dict[str, Any], chunks: list[ChunkObjects], sizes: dict[str, int]) -> Iterator[str]:
    if row["hls_path"] not in sizes:
        yield f"its master {row['hls_path']} does not exist"
    for chunk in chunks:
        for key, size in chunk.sizes().items():
            if sizes.get(key) != size:
                yield f"{key} has {sizes.get(key)} bytes, {size} were recorded"


def _proven(
    row: dict[str, Any], plan: Plan, chunks: list[ChunkObjects], sizes: dict[str, int], storage: S3
) -> Iterator[str]:
    """The appliance's own proof, on what lies there now."""
    homes = {posixpath.dirname(row["hls_path"]), *(chunk.prefix for chunk in chunks)}
    listed = {key: size for key, size in sizes.items() if posixpath.dirname(key) in homes}
    if len(chunks) != len(plan.chunks):
        yield f"{len(chunks)} of {len(plan.chunks)} chunks are DONE"
        return
    for broken in proof.prove(storage.read, listed, row["hls_path"], proof.Expected(plan, tuple(chunks))):
        yield f"{broken.rule}: {broken.object}: {broken.sentence}"
