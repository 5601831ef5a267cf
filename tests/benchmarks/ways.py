"""The two ways of a recording into a stream, and what became of it: the `encode` verb, and a running appliance."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from appliance.adapters.directory import Directory
from appliance.adapters.s3 import S3
from appliance.streams import proof
from tests.benchmarks.manifest import Entry
from tests.hosts import World, host
from tests.shell import environment

LOOK_SECONDS = 0.25
#: A broken stream may break a thousand rules.
MOST_FINDINGS = 5


@dataclass(frozen=True)
class Outcome:
    """How one file ended on one way. `broken` is what `verify` found; memory is the largest of any process."""

    status: str
    code: str | None
    reason: str | None
    seconds: float
    media_seconds: float = 0.0
    chunks: int = 0
    peak_memory_bytes: int = 0
    peak_disk_bytes: int = 0
    warnings: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, status: str, code: str | None, reason: str | None, receipt: dict[str, Any], **facts: Any) -> Outcome:
        facts.setdefault("peak_memory_bytes", receipt.get("peak_memory_bytes", 0))
        facts |= {"media_seconds": receipt.get("media_seconds", 0.0), "chunks": receipt.get("chunks_total", 0)}
        return cls(status, code, reason, warnings=list(receipt.get("warnings", ())), **facts)


class Disk:
    """The most that lay in each directory of a pattern at any one look; `with Disk(...)` keeps looking."""

    def __init__(self, top: Path, pattern: str) -> None:
        self._top = top
        self._pattern = pattern
        self._peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peak_bytes(self, beginning: str = "") -> int:
        """Of the directories whose name begins so."""
        return max((peak for name, peak in self._peaks.items() if name.startswith(beginning)), default=0)

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for directory in self._top.glob(self._pattern):
                self._peaks[directory.name] = max(self._peaks.get(directory.name, 0), _size(directory))


def _size(directory: Path) -> int:
    """Bytes of what lies there; what goes away meanwhile is not counted (os.walk passes over it as well)."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def verify(store: Directory | S3, master: str) -> tuple[list[str], list[str]]:
    """What `video-appliance verify` finds, in S3 with types and headers: what is wrong or not seen, and its advice."""
    verdict = proof.verify(store.read, master)
    wrong = [f"{found.rule}: {found.object}: {found.sentence}" for found in verdict.broken]
    wrong += [f"not looked into: {key}: {sentence}" for key, sentence in verdict.unseen]
    return wrong[:MOST_FINDINGS], sorted({f"{found.rule}: {found.sentence}" for found in verdict.advice})[
        :MOST_FINDINGS
    ]


def encode(entry: Entry, directory: Path, config: Path, deadline_seconds: float) -> Outcome:
    """Through `video-appliance encode`, as a program. One that does not end is killed and FAILED without a code."""
    out = directory / "out"
    out.mkdir(parents=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "appliance", "encode", str(entry.file.absolute()), "--out", str(out), "--json"]
    with Disk(out, ".encode-*/work") as disk:
        try:
            status, text, errors, memory = _run([*command, "--config", str(config)], directory, deadline_seconds)
        except subprocess.TimeoutExpired:
            return Outcome("FAILED", None, f"It did not end within {deadline_seconds:.0f} s.", time.monotonic() - began)
    seconds = time.monotonic() - began
    facts = {"seconds": seconds, "peak_memory_bytes": memory, "peak_disk_bytes": disk.peak_bytes()}
    try:
        result = json.loads(text.splitlines()[-1])
        receipt = result["receipt"]
    except (ValueError, LookupError):
        return Outcome("FAILED", None, f"It ended with status {status}: {(errors or text).strip()[-300:]}", seconds)
    broken, advice = verify(Directory(out), "master.m3u8") if result["outcome"] == "READY" else ([], [])
    shutil.rmtree(directory)
    return Outcome.of(
        result["outcome"], result["error_code"], result["error_reason"], receipt, broken=broken, advice=advice, **facts
    )


def _run(command: list[str], directory: Path, deadline_seconds: float) -> tuple[int, str, str, int]:
    """(status, stdout, stderr, bytes of memory of its largest process). Raises TimeoutExpired, the program killed."""
    streams = [directory / "stdout", directory / "stderr"]
    with streams[0].open("w") as out, streams[1].open("w") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment())
        timer = threading.Timer(deadline_seconds, process.kill)
        timer.start()
        began = time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        timer.cancel()
    if process.returncode < 0 and time.monotonic() - began >= deadline_seconds:
        raise subprocess.TimeoutExpired(command, deadline_seconds)
    return process.returncode, *(path.read_text(errors="replace") for path in streams), usage.ru_maxrss * 1024


def _environment() -> dict[str, str]:
    """Ours, without what would name another configuration."""
    return {name: value for name, value in environment().items() if not name.startswith("VIDEO_")}


class Appliance:
    """A running appliance and what it works on."""

    def __init__(self, world: World, disk: Disk) -> None:
        self._world = world
        self._disk = disk
        self._store = S3(world.aws.client("s3"), world.bucket)
        #: Database id → what was submitted under it.
        self._waiting: dict[int, Entry] = {}

    def submit(self, entry: Entry) -> None:
        """As the platform does it: the object, the row, the ring."""
        video_id = self._world.upload(entry.file)
        self._waiting[video_id] = entry
        self._world.ring(video_id)

    def outcomes(self, deadline_seconds: float) -> Iterator[tuple[Entry, Outcome]]:
        """Each as it ends. One that is PROCESSING for longer than the deadline counts as FAILED without a code."""
        pause = threading.Event()
        while self._waiting:
            for row in self._rows():
                entry = self._waiting[row["id"]]
                late = row["status"] == "PROCESSING" and row["seconds"] > deadline_seconds
                if row["status"] in ("READY", "FAILED") or late:
                    del self._waiting[row["id"]]
                    yield entry, self._outcome(row, late=late)
            pause.wait(LOOK_SECONDS)

    def _rows(self) -> list[dict[str, Any]]:
        """Every row not seen to end yet, with its last attempt: `seconds` is how long that took, or takes."""
        return self._world.query(
            "SELECT v.*, a.receipt, extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::float AS seconds"
            " FROM video v LEFT JOIN video_attempt a ON a.video_id = v.id AND a.epoch = v.lease_epoch"
            " WHERE v.id = ANY (%s) ORDER BY v.id",
            list(self._waiting),
        )

    def _outcome(self, row: dict[str, Any], *, late: bool) -> Outcome:
        receipt = row["receipt"] or {}
        if late:
            return Outcome("FAILED", None, f"It was PROCESSING for {row['seconds']:.0f} s.", row["seconds"])
        broken, advice = verify(self._store, row["hls_path"]) if row["status"] == "READY" else ([], [])
        self._store.delete(list(self._store.sizes(f"hls/{row['id']}/")))  # moto keeps it in memory
        facts = {"seconds": row["seconds"] or 0.0, "peak_disk_bytes": self._disk.peak_bytes(f"job-{row['id']}-")}
        return Outcome.of(
            row["status"], row["error_code"], row["error_reason"], receipt, broken=broken, advice=advice, **facts
        )


@contextmanager
def appliance(world: World, directory: Path, settings: dict[str, Any]) -> Iterator[Appliance]:
    """The real supervisor with its pool on this world, until the block ends."""
    with host(world, directory, **settings) as running, Disk(directory / "scratch", "job-*") as disk:
        yield Appliance(world, disk)
        status = running.process.poll()
    if status is not None:
        raise RuntimeError(f"The supervisor ended with status {status}: {running.log_path.read_text()[-2000:]}")
