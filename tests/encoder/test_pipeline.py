"""The straight line without services: what is resumed, redone, refused and cleaned up."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.directory import Directory
from appliance.adapters.ffmpeg import tools
from appliance.adapters.ffmpeg.commands import SOURCE
from appliance.adapters.ffmpeg.tools import Tools
from appliance.config import Config, Encode, Sandbox
from appliance.domain.errors import Draining, LeaseLost, Transient, Unavailable
from appliance.domain.events import ChunkClaiming, ChunkEnded, Event
from appliance.domain.layout import Layout
from appliance.domain.media import LadderStep
from appliance.domain.video import DoneChunk, Lease, Worker
from appliance.encoder import patience
from appliance.encoder.local import ChunkTable, LocalJob
from appliance.encoder.pipeline import Fetched, Pipeline
from appliance.wiring import engine
from tests.recordings import numbered

CONFIG = Config(
    encode=Encode(
        ladder=(LadderStep(180, 30, 400_000), LadderStep(90, 30, 200_000)),
        gop_seconds=1.0,
        segment_seconds=1.0,
        chunk_seconds=2.0,
    )
)
#: 200 frames at 30: four chunks of pictures and one of sound.
CHUNKS = 5


class Desk(LocalJob):
    """A job that remembers what was announced, and can be ended at any check."""

    def __init__(self, epoch: int = 1, *, finished_epoch: int = 0) -> None:
        lease = Lease(7, 1, "key", uuid.uuid4(), epoch, Worker("host", "desk"), finished_epoch=finished_epoch)
        super().__init__(lease, lambda percent, step, more: self.percents.append(percent))
        self.percents: list[float] = []
        self.announced: list[Event] = []
        self.at_check: Callable[[], None] = lambda: None
        self.at_begin: Callable[[], None] = lambda: None

    def check(self) -> None:
        self.at_check()

    def may_begin(self, expected_seconds: float | None) -> None:
        del expected_seconds
        self.at_begin()

    def announce(self, event: Event) -> None:
        self.announced.append(event)

    def ended(self, outcome: str) -> int:
        return sum(1 for event in self.announced if isinstance(event, ChunkEnded) and event.outcome == outcome)


class Rows(ChunkTable):
    """A chunk table that outlives its owner, as PostgreSQL's does."""

    epoch = 1
    #: What somebody else is encoding.
    todo_without: frozenset[int] | set[int] = frozenset()
    known: Any = None

    def known_plan(self, lease: Lease, recipe: str) -> Any:
        del lease
        return self.known if self.known and self.known.recipe == recipe else None

    def adopt(self, lease: Lease, plan: Any, build: str) -> None:
        self.known = plan
        if plan.fingerprint != self.plan:
            self.finished = {}
        super().adopt(lease, plan, build)
        self.todo = [number for number in self.todo if number not in {*self.finished, *self.todo_without}]
        self.epoch = lease.epoch

    def done(self, chunk: Any, objects: dict[str, Any]) -> None:
        self.finished[chunk.number] = DoneChunk(chunk.number, chunk.token, self.epoch, objects)


class Shelf(Directory):
    """A directory that can lose or damage what it is given."""

    def __init__(self, root: Path, harm: Callable[[str, bytes], bytes | None] = lambda key, data: data) -> None:
        super().__init__(root)
        self._harm = harm
        #: Keys of texts, in the order in which they lay there.
        self.texts: list[str] = []

    def put_bytes(self, key: str, data: bytes, **headers: Any) -> None:
        super().put_bytes(key, data, **headers)
        self.texts.append(key)

    def put_file(self, key: str, path: Path, *, content_type: str, cache_control: str) -> None:
        kept = self._harm(key, path.read_bytes())
        if kept is not None:
            super().put_bytes(key, kept, content_type=content_type, cache_control=cache_control)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("source") / "numbered.mp4", rate="30", frames=200)


@pytest.fixture
def build(tmp_path: Path, recording: Path) -> Callable[..., Pipeline]:
    def build(
        shelf: Shelf, rows: Rows, *, etag: str = "etag", config: Config = CONFIG, programs: Tools | None = None
    ) -> Pipeline:
        def fetch(job: object, directory: Path) -> Fetched:
            del job
            (directory / SOURCE).hardlink_to(recording)
            return Fetched(etag, recording.stat().st_size)

        @contextmanager
        def workspace(lease: Lease) -> Iterator[Path]:
            directory = tmp_path / f"work-{lease.token}"
            directory.mkdir()
            yield directory

        return engine.pipeline(
            config,
            engine.workshop(config, programs or tools.find(), shelf, rows),
            gzip_playlists=False,
            fetch=fetch,
            workspace=workspace,
            layout=lambda lease, plan: Layout.of("hls", lease, plan),
        )

    return build


def test_a_job_ends_published_and_pays_its_bill(tmp_path: Path, build: Callable[..., Pipeline]) -> None:
    job, shelf = Desk(), Shelf(tmp_path / "s3")
    published = build(shelf, Rows())(job)
    assert shelf.texts[-1] == published.hls_path  # whoever finds it finds the rest
    assert published.hls_path == f"hls/7/1-{job.lease.token}/master.m3u8"
    assert published.duration_seconds == pytest.approx(200 / 30)
    receipt = job.receipt
    assert (receipt.chunks_total, receipt.chunks_encoded, receipt.chunks_resumed) == (CHUNKS, CHUNKS, 0)
    assert receipt.rungs == ("180p", "90p")
    assert receipt.cpu_seconds > 0
    assert receipt.peak_memory_bytes > 0
    stored = sum(path.stat().st_size for path in (tmp_path / "s3/hls/7/media").rglob("*.*") if path.is_file())
    assert receipt.bytes_out == stored
    assert job.percents == sorted(job.percents)
    assert sum(1 for event in job.announced if isinstance(event, ChunkClaiming)) == CHUNKS


def test_f02_the_next_owner_does_only_the_missing_chunks(tmp_path: Path, build: Callable[..., Pipeline]) -> None:
    rows, shelf = Rows(), Shelf(tmp_path / "s3")
    first = Desk(epoch=1)

    def die_after_two() -> None:
        if len(rows.finished) >= 2:
            raise LeaseLost("Another host has it.")

    first.at_check = die_after_two
    with pytest.raises(LeaseLost):
        build(shelf, rows)(first)
    kept = {number: chunk.token for number, chunk in rows.finished.items()}
    second = Desk(epoch=2)
    build(shelf, rows)(second)
    assert second.receipt.chunks_resumed == len(kept) >= 2
    # the source was looked at once, and what was found stands in both receipts
    assert (first.receipt.overhead_cpu_seconds > 0, second.receipt.overhead_cpu_seconds) == (True, 0)
    assert second.receipt.content_reason == first.receipt.content_reason
    assert second.receipt.chunks_resumed + second.receipt.chunks_encoded == CHUNKS
    assert {number: rows.finished[number].token for number in kept} == kept


def test_a_drain_between_chunks_keeps_the_one_that_is_still_uploading(
    tmp_path: Path, build: Callable[..., Pipeline]
) -> None:
    rows, job = Rows(), Desk()
    begun: list[int] = []

    def drain_at_the_third() -> None:
        begun.append(1)
        if len(begun) == 3:
            raise Draining("This encoder is leaving.")

    job.at_begin = drain_at_the_third
    with pytest.raises(Draining):
        build(Shelf(tmp_path / "s3"), rows)(job)
    assert sorted(rows.finished) == [0, 1]


def test_a_chunk_that_is_interrupted_is_given_back(tmp_path: Path, build: Callable[..., Pipeline]) -> None:
    rows, job = Rows(), Desk()

    def leave_now() -> None:
        if job.announced:
            raise Draining("This encoder must leave at once.")

    job.at_check = leave_now
    with pytest.raises(Draining):
        build(Shelf(tmp_path / "s3"), rows)(job)
    assert rows.todo == [0, 1, 2, 3, 4]
    assert job.ended("released") == 1


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda data: None, id="lost"),
        pytest.param(lambda data: data[:-100], id="cut"),
        pytest.param(lambda data: b"", id="empty"),
    ],
)
def test_f48_a_segment_that_did_not_arrive_is_encoded_again(
    tmp_path: Path, build: Callable[..., Pipeline], harm: Callable[[bytes], bytes | None]
) -> None:
    harmed: list[str] = []

    def once(key: str, data: bytes) -> bytes | None:
        if key.endswith("90p_00003.m4s") and not harmed:
            harmed.append(key)
            return harm(data)
        return data

    job = Desk()
    build(Shelf(tmp_path / "s3", once), Rows())(job)
    assert harmed
    assert job.receipt.chunks_redone >= 1
    assert any("proof failed" in warning for warning in job.receipt.warnings)


def test_f48_what_cannot_be_made_whole_is_never_published(tmp_path: Path, build: Callable[..., Pipeline]) -> None:
    shelf = Shelf(tmp_path / "s3", lambda key, data: None if "90p_00003" in key else data)
    with pytest.raises(Transient) as caught:
        build(shelf, Rows())(Desk())
    assert caught.value.code == "proof_failed"


@pytest.mark.parametrize("call", ["put_file", "put_bytes", "read", "sizes"])
def test_f27_storage_that_is_away_for_a_while_costs_no_chunk_and_no_attempt(
    tmp_path: Path, build: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(patience, "AGAIN_SECONDS", 0.001)
    shelf, refusals = Shelf(tmp_path / "s3"), [Unavailable("s3", "S3 refused or did not answer: SlowDown")] * 20
    answer = getattr(shelf, call)

    def away(*arguments: Any, **named: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return answer(*arguments, **named)

    monkeypatch.setattr(shelf, call, away)
    job = Desk()
    build(shelf, Rows())(job)
    assert not refusals
    assert (job.receipt.chunks_encoded, job.receipt.chunks_redone) == (CHUNKS, 0)
    assert job.ended("released") == 0


def test_f53_another_source_ladder_or_generation_is_another_plan(
    tmp_path: Path, build: Callable[..., Pipeline]
) -> None:
    rows, shelf = Rows(), Shelf(tmp_path / "s3")
    plans = []
    smaller = replace(CONFIG, encode=replace(CONFIG.encode, ladder=CONFIG.encode.ladder[1:]))
    for changes, job in (
        ({}, Desk()),
        ({"etag": "replaced"}, Desk(2)),
        ({"config": smaller}, Desk(3)),
        ({}, Desk(4, finished_epoch=1)),
    ):
        build(shelf, rows, **changes)(job)
        assert job.receipt.chunks_resumed == 0
        plans.append(rows.plan)
    assert len(set(plans)) == len(plans)


class Asked(Rows):
    """Hears the recipe; nothing is encoded."""

    recipe = ""

    def known_plan(self, lease: Lease, recipe: str) -> Any:
        self.recipe = recipe
        raise LeaseLost("Enough.")


def recipe(directory: Path, build: Callable[..., Pipeline], **changes: Any) -> str:
    rows = Asked()
    with pytest.raises(LeaseLost):
        build(Shelf(directory / "s3"), rows, **changes)(Desk())
    return rows.recipe


def other(value: Any) -> Any:
    """Of the same kind, and not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"another {value}"
    return value[1:] or ("another",) if isinstance(value, tuple) else value + 1


@pytest.mark.parametrize(
    ("section", "name"),
    [
        *(("encode", field.name) for field in fields(Encode)),
        *(("sandbox", field.name) for field in fields(Sandbox)),
        *(("ffmpeg", name) for name in ("memory_bytes", "max_pixels", "max_duration_seconds")),
    ],
)
def test_with_another_setting_no_plan_of_before_is_taken(
    tmp_path: Path, build: Callable[..., Pipeline], section: str, name: str
) -> None:
    part = getattr(CONFIG, section)
    changed = replace(CONFIG, **{section: replace(part, **{name: other(getattr(part, name))})})
    assert recipe(tmp_path, build, config=changed) != recipe(tmp_path, build)


def test_of_other_bytes_or_with_other_programs_no_plan_of_before_is_taken(
    tmp_path: Path, build: Callable[..., Pipeline]
) -> None:
    found = tools.find()
    programs = [replace(found, build="another"), replace(found, ffprobe="/another/release/ffprobe")]
    made = [recipe(tmp_path, build, programs=one) for one in (found, *programs)]
    assert made[0] == recipe(tmp_path, build)
    assert len({*made, recipe(tmp_path, build, etag="another")}) == 4


def test_local_disk_holds_the_source_and_two_chunks_at_most(tmp_path: Path, build: Callable[..., Pipeline]) -> None:
    seen: list[int] = []
    job = Desk()

    def count() -> None:
        seen.append(len(list(tmp_path.glob(f"work-{job.lease.token}/chunk-*"))))

    job.at_check = count
    build(Shelf(tmp_path / "s3"), Rows())(job)
    assert max(seen) == 2
    assert not list(tmp_path.glob("work-*/chunk-*"))


def test_chunks_that_assistants_made_are_waited_for_counted_and_on_the_videos_bill(
    tmp_path: Path, build: Callable[..., Pipeline]
) -> None:
    """Two of an earlier run lie in other hands: one begun for an earlier owner, one for this."""
    rows, shelf = Rows(), Shelf(tmp_path / "s3")
    build(shelf, rows)(Desk(epoch=1))
    theirs = [replace(rows.finished.pop(number), assisted=True) for number in (2, 3)]
    rows.finished = {}
    rows.todo_without = {2, 3}
    job = Desk(epoch=2)

    def done_elsewhere(seconds: float) -> None:
        del seconds
        chunk = theirs.pop()
        warned = {**chunk.objects, "warnings": ["Chunk: 5 frames could not be decoded and were bridged."]}
        rows.finished[chunk.number] = replace(chunk, epoch=chunk.number - 1, objects=warned)

    job.wait = done_elsewhere  # type: ignore[method-assign]
    build(shelf, rows)(job)
    receipt = job.receipt
    counted = (receipt.chunks_encoded, receipt.chunks_resumed, receipt.chunks_assisted, receipt.chunks_total)
    assert counted == (CHUNKS - 2, 1, 1, CHUNKS)
    assert receipt.warnings == ("Chunk: 5 frames could not be decoded and were bridged.",)
    costs = [chunk.objects["cost"] for chunk in rows.finished.values()]
    assert receipt.video is not None
    spent = sum(cost["cpu_seconds"] for cost in costs)
    assert receipt.video.cpu_seconds == pytest.approx(spent + receipt.overhead_cpu_seconds)
    assert receipt.video.rung_seconds == pytest.approx(sum(cost["media_seconds"] for cost in costs))
    assert receipt.cpu_seconds < receipt.video.cpu_seconds
