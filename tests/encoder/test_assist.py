"""An assistant on real PostgreSQL and S3; ffmpeg is real where its output matters, else its run is played."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from appliance.adapters.ffmpeg import tools
from appliance.adapters.postgres.chunks import MAX_ASSISTANTS, Chunks
from appliance.adapters.postgres.connection import AmbiguousCommit
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.s3 import S3
from appliance.config import Storage
from appliance.domain.errors import Transient
from appliance.domain.events import Assisting, ChunkClaiming, ChunkEnded, Progress
from appliance.domain.media import LadderStep, Source
from appliance.domain.plan import Packaging, Plan, make_plan
from appliance.domain.video import Lease, Worker
from appliance.encoder import assist
from appliance.encoder.assist import Assistant
from appliance.encoder.drain import Drain
from appliance.local.aws import Aws
from appliance.streams.segments import ChunkObjects
from appliance.wiring import adapters
from appliance.wiring.encoder import build
from tests.domain.test_plan import video
from tests.encoder.stage import Listener, World, until
from tests.recordings import numbered

STEPS = (LadderStep(90, 30, 200_000),)
OWNER = Worker("host-a", "host-a:0")
TYPE = {"content_type": "video/mp4", "cache_control": ""}


@dataclass
class Scene:
    """A video of three chunks that somebody owns, and an encoder of another process that has nothing to do."""

    world: World
    lease: Lease
    plan: Plan
    leases: Leases
    chunks: Chunks
    storage: S3
    assistant: Assistant
    listener: Listener
    drain: Drain

    def rows(self) -> list[dict[str, Any]]:
        return self.world.query("SELECT * FROM video_chunk ORDER BY number")

    def states(self) -> list[tuple[str, int]]:
        return [(row["state"], row["assistant_losses"]) for row in self.rows()]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("source") / "numbered.mp4", rate="30", frames=90, audio=False)


@pytest.fixture
def scene(world: World, bucket: str, aws: Aws, recording: Path) -> Iterator[Scene]:
    world = replace(world, config=replace(world.config, storage=Storage(bucket=bucket)))
    storage = adapters.storage(world.config)
    storage.put_file("a.mp4", recording, **TYPE)
    head = storage.head("a.mp4")
    database = adapters.database(world.config, "test")
    leases, chunks = adapters.leases(world.config, database), adapters.chunks(world.config, database)
    lease = leases.claim(world.video(), OWNER, uuid.uuid4())
    assert isinstance(lease, Lease)
    source = Source("mov", video(30, 3), None)
    plan = make_plan(source, identity={}, steps=STEPS, packaging=Packaging(1.0, 1.0, 1.0, 0.0))
    plan = replace(plan, source_etag=head.etag, source_bytes=head.size_bytes)
    chunks.adopt(lease, plan, tools.find().build)
    listener, drain = Listener(), Drain(20.0)
    Path(world.config.workspace.directory).mkdir()
    encoder = build(world.config, 1, listener.parent, drain)
    assert encoder._assist is not None
    yield Scene(world, lease, plan, leases, chunks, storage, encoder._assist, listener, drain)
    database.close()
    drain.close()
    listener.close()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """In place of ffmpeg: do something, then go on until `check` ends it."""

    def play(act: Callable[[], None]) -> None:
        def encode(*_: object, check: Callable[[], None], **__: object) -> None:
            act()
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                check()
                time.sleep(0.01)
            raise AssertionError("nothing ended it")

        monkeypatch.setattr("appliance.encoder.workshop.encode", encode)

    return play


def test_a_chunk_is_encoded_for_its_owner_and_the_source_is_fetched_once(scene: Scene, redis_url: str) -> None:
    assert scene.assistant() == 0.0
    assert scene.assistant() == 0.0
    first, second = scene.chunks.done_chunks(scene.lease, scene.plan.fingerprint)
    assert (first.number, first.assisted, first.epoch) == (1, True, scene.lease.epoch)
    one, two = (ChunkObjects.from_json(row.number, row.objects) for row in (first, second))
    assert one.sizes().items() <= scene.storage.sizes("").items()
    assert one.prefix == f"hls/{scene.lease.video_id}/media/{scene.plan.fingerprint}/1-{first.token}"
    assert (one.cost.bytes_in, two.cost.bytes_in) == (scene.plan.source_bytes, 0)
    assert one.cost.cpu_seconds > 0
    client = redis.Redis.from_url(redis_url)
    assert client.keys() == []  # heartbeat and progress are the owner's
    client.close()
    events = [event for event in scene.listener.events if isinstance(event, ChunkClaiming | Assisting | ChunkEnded)]
    assert [type(event) for event in events] == [ChunkClaiming, Assisting, ChunkEnded] * 2
    assert {event.token for event in events[:3]} == {first.token}
    assert (events[1].video_id, events[1].number, events[2].outcome) == (scene.lease.video_id, 1, "assisted")
    assert all(event.step.startswith("assist chunk") for event in scene.listener.of(Progress))
    assert not list(Path(scene.world.config.workspace.directory).glob("job-*"))


def test_it_helps_nobody_while_a_video_waits_and_looks_again_soon(scene: Scene) -> None:
    scene.world.video()
    assert scene.assistant() == assist.SOON_SECONDS
    assert scene.states() == [("TODO", 0)] * 3
    assert [event.outcome for event in scene.listener.of(ChunkEnded)] == ["none"]


def test_without_a_chunk_to_help_with_it_lets_the_queue_be_polled_for_long(scene: Scene) -> None:
    assert scene.assistant.wanted()
    scene.leases.cancelled(scene.lease, receipt={})
    assert not scene.assistant.wanted()
    assert scene.assistant() == math.inf


def test_it_renews_its_chunk_while_it_works(scene: Scene, played: Callable[..., None]) -> None:
    def act() -> None:
        before = scene.rows()[0]["leased_until"]
        until(lambda: scene.rows()[0]["leased_until"] > before, "a renewal")
        scene.drain.note()
        scene.drain.note()

    played(act)
    scene.assistant()
    assert scene.states() == [("TODO", 0)] * 3


def end_by_cancel(scene: Scene) -> None:
    scene.leases.cancel(scene.lease.video_id)


def end_by_plan(scene: Scene) -> None:
    scene.chunks.adopt(scene.lease, replace(scene.plan, fingerprint="another"), tools.find().build)


def end_by_theft(scene: Scene) -> None:
    """It was paused beyond its lease, and the owner took the chunk."""
    scene.world.query("UPDATE video_chunk SET leased_until = now() - interval '1 s' WHERE state = 'RUNNING'")
    assert scene.chunks.claim_chunk(scene.lease, uuid.uuid4()) is not None


@pytest.mark.parametrize(
    ("end", "left"),
    [
        pytest.param(end_by_cancel, "RUNNING", id="cancel"),
        pytest.param(end_by_plan, "RUNNING", id="f53-new-plan"),
        pytest.param(end_by_theft, "RUNNING", id="f13-taken-by-another"),
    ],
)
def test_what_ends_the_chunk_ends_its_assistant_which_writes_nothing(
    scene: Scene, played: Callable[..., None], end: Callable[[Scene], None], left: str
) -> None:
    before: list[Any] = []

    def act() -> None:
        end(scene)
        before.append(scene.rows())

    played(act)
    assert scene.assistant() == 0.0
    row = next(row for row in scene.rows() if row["plan"] == scene.plan.fingerprint)
    assert (row["state"], row["objects"]) == (left, None)
    assert row == next(row for row in before[0] if row["plan"] == scene.plan.fingerprint)
    assert [event.outcome for event in scene.listener.of(ChunkEnded)] == ["lost"]
    assert list(scene.storage.sizes("hls/")) == []


def test_f38_a_second_sigterm_gives_the_chunk_back_uncounted(scene: Scene, played: Callable[..., None]) -> None:
    def act() -> None:
        scene.drain.note()
        scene.drain.note()

    played(act)
    scene.assistant()
    assert scene.states() == [("TODO", 0)] * 3
    assert [event.outcome for event in scene.listener.of(ChunkEnded)] == ["released"]


def test_f37_a_chunk_that_was_begun_is_finished_within_the_drains_budget(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.encoder import workshop

    encode = workshop.encode

    def signalled(*arguments: Any, **more: Any) -> Any:
        scene.drain.note()
        return encode(*arguments, **more)

    monkeypatch.setattr(workshop, "encode", signalled)
    scene.assistant()
    assert [state for state, _ in scene.states()] == ["DONE", "TODO", "TODO"]


def test_a_chunk_that_fails_in_assistants_is_left_to_its_owner(scene: Scene, played: Callable[..., None]) -> None:
    def act() -> None:
        raise Transient("The encoder ended with status 1 in chunk 1.", code="encode_failed")

    played(act)
    for losses in range(1, MAX_ASSISTANTS + 1):
        scene.assistant()
        assert scene.states()[0] == ("TODO", losses)
        assert scene.assistant() == math.inf  # it rests: what is wrong may be this host
        assert not scene.assistant.wanted()
        scene.assistant._rest_until = -math.inf
    scene.assistant()
    assert [losses for _, losses in scene.states()] == [MAX_ASSISTANTS, 1, 0]
    assert scene.chunks.claim_chunk(scene.lease, uuid.uuid4()).number == 1
    assert scene.world.row(scene.lease.video_id)["failure_count"] == 0


def test_f53_a_source_that_was_replaced_is_not_read_and_the_chunk_goes_back(scene: Scene) -> None:
    scene.storage.put_bytes("a.mp4", b"another recording", **TYPE)
    scene.assistant()
    assert scene.states() == [("TODO", 0)] * 3
    assert list(scene.storage.sizes("hls/")) == []


def test_f35_without_room_for_the_source_the_chunk_goes_back(scene: Scene) -> None:
    scene.assistant._fetch.__self__._floor_bytes = 1 << 60
    scene.assistant()
    assert scene.states() == [("TODO", 0)] * 3


def test_f11_a_claim_whose_answer_was_lost_is_given_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = scene.assistant._chunks
    claim = chunks.claim_assist

    def claim_and_lose_the_answer(*arguments: Any) -> None:
        assert claim(*arguments) is not None
        raise AmbiguousCommit("postgres", "The connection was lost during `claim_assist`.")

    monkeypatch.setattr(chunks, "claim_assist", claim_and_lose_the_answer)
    assert scene.assistant() == assist.SOON_SECONDS
    assert scene.states() == [("TODO", 0)] * 3
    assert [event.outcome for event in scene.listener.of(ChunkEnded)] == ["none"]
