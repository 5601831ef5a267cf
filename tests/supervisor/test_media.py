"""What nothing names is deleted, and nothing else; on real PostgreSQL and S3."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from appliance.adapters import aws as factory
from appliance.adapters.postgres.media import Media
from appliance.adapters.s3 import S3
from appliance.domain.errors import Unavailable
from appliance.domain.retry import Decision
from appliance.domain.video import Lease
from appliance.supervisor.media import MediaSweep
from appliance.supervisor.metrics import Metrics
from tests.supervisor.rows import WORKER, Rows, closing

REST = 3600.0
#: What the tests put into storage is made to look this much older than it is.
AGE = 2 * REST


class OldStorage(S3):
    """Everything in it was written long ago."""

    def older_than(self, prefix: str, seconds: float) -> dict[str, int]:
        return super().older_than(prefix, seconds - AGE)


class House:
    """Rows, storage and the sweep. Makes pieces the way an encode leaves them."""

    def __init__(self, rows: Rows, client: Any, bucket: str) -> None:
        self.rows, self.client, self.bucket = rows, client, bucket
        self.metrics = Metrics()
        self.storage: S3 = OldStorage(client, bucket)

    def sweep(self) -> int:
        media = Media(self.rows.database, rest_seconds=REST)
        sweep = MediaSweep(media, lambda: self.storage, prefix="hls", rest_seconds=REST, metrics=self.metrics)
        return sweep.sweep()

    def put(self, key: str) -> str:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=b"x")
        return key

    def keys(self) -> set[str]:
        return set(self.storage.sizes(""))

    def chunk(self, lease: Lease, plan: str, number: int, state: str = "DONE") -> str:
        """A chunk of the plan, adopted by this owner, and a segment of it; TODO: what a dead encoder left."""
        token = uuid4()
        sql = self.rows.sql
        sql("UPDATE video SET plan = %s WHERE id = %s", plan, lease.video_id)
        sql("INSERT INTO video_plan VALUES (%s, %s, '', '{}', now()) ON CONFLICT DO NOTHING", lease.video_id, plan)
        done = state == "DONE"
        sql(
            "INSERT INTO video_chunk (video_id, plan, number, state, token, objects, epoch)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            *(lease.video_id, plan, number, state, str(token) if done else None, "{}" if done else None, lease.epoch),
        )
        return self.put(f"hls/{lease.video_id}/media/{plan}/{number}-{token}/360p_00001.m4s")

    def playlists(self, lease: Lease) -> str:
        return self.put(f"hls/{lease.video_id}/{lease.epoch}-{lease.token}/master.m3u8")

    def publish(self, lease: Lease, seconds_ago: float = AGE) -> str:
        master = self.playlists(lease)
        self.rows.leases.complete(lease, hls_path=master, duration_seconds=9.0, receipt=None)
        self.rest(lease.video_id, seconds_ago)
        return master

    def rest(self, video_id: int, seconds_ago: float = AGE) -> None:
        """Its attempts ended this long ago."""
        self.rows.sql(
            "UPDATE video_attempt SET ended_at = now() - make_interval(secs => %s)"
            " WHERE video_id = %s AND ended_at IS NOT NULL",
            *(seconds_ago, video_id),
        )

    def again(self, lease: Lease) -> Lease:
        """The platform submits it anew, and somebody claims it."""
        self.rows.sql("UPDATE video SET status = 'UPLOADED' WHERE id = %s", lease.video_id)
        claimed = self.rows.leases.claim(lease.video_id, WORKER, uuid4())
        assert isinstance(claimed, Lease)
        return claimed

    def fail(self, lease: Lease) -> None:
        self.rows.leases.fail(lease, Decision("corrupt", "It cannot be read.", None), receipt=None)


@pytest.fixture
def house(dsn, redis_url, aws, queue_url, bucket) -> Iterator[House]:
    client = factory.client("s3", region=aws.region, endpoint_url=aws.endpoint_url)
    with closing(Rows(dsn, redis_url, aws, queue_url)) as rows:
        yield House(rows, client, bucket)
    client.close()


def test_a_published_stream_keeps_its_own_pieces_and_loses_what_lost_attempts_left(house: House) -> None:
    lease = house.rows.held()
    kept = {house.chunk(lease, "plan-a", 1), house.chunk(lease, "plan-a", 2)}
    home = f"hls/{lease.video_id}"
    left = {
        house.put(f"{home}/media/plan-a/1-{uuid4()}/360p_00001.m4s"),
        house.put(f"{home}/media/plan-0/1-{uuid4()}/360p_00001.m4s"),
        house.put(f"{home}/1-{uuid4()}/master.m3u8"),
    }
    kept.add(house.publish(lease))
    kept.add(house.put(f"{home}/thumbnail-of-the-platform.jpg"))
    assert house.sweep() == len(left)
    assert house.keys() == kept
    assert house.metrics.value("media_swept_objects") == len(left)


def test_f55_a_stream_that_a_person_calls_ready_again_after_its_re_encode_failed_loses_nothing(house: House) -> None:
    """Its row's plan is the failed one's, all of whose chunks are DONE: it failed at the last step."""
    first = house.rows.held()
    watched = {house.chunk(first, "plan-a", 1), house.publish(first)}
    second = house.again(first)
    house.chunk(second, "plan-b", 1)
    house.fail(second)
    house.rest(first.video_id)
    house.rows.sql("UPDATE video SET status = 'READY' WHERE id = %s", first.video_id)
    house.sweep()
    assert watched <= house.keys()
    assert {row["plan"] for row in house.rows.sql("SELECT plan FROM video_chunk")} == {"plan-a", "plan-b"}


def test_the_stream_that_a_re_encode_replaced_goes_and_the_tables_forget_its_plan(house: House) -> None:
    first = house.rows.held()
    house.chunk(first, "plan-a", 1)
    house.publish(first)
    second = house.again(first)
    kept = {house.chunk(second, "plan-b", 1), house.publish(second)}
    house.sweep()
    assert house.keys() == kept
    assert [row["fingerprint"] for row in house.rows.sql("SELECT fingerprint FROM video_plan")] == ["plan-b"]


def test_a_stream_that_is_watched_while_its_re_encode_runs_or_has_failed_is_left_alone(house: House) -> None:
    first = house.rows.held()
    house.chunk(first, "plan-a", 1)
    house.publish(first)
    second = house.again(first)
    house.chunk(second, "plan-b", 1)
    before = house.keys()
    assert house.sweep() == 0
    house.fail(second)
    house.rest(first.video_id)
    assert house.sweep() == 0
    assert house.keys() == before


def test_a_failed_video_keeps_the_chunks_that_another_try_would_not_encode_again(house: House) -> None:
    lease = house.rows.held()
    done = house.chunk(lease, "plan-a", 1)
    house.chunk(lease, "plan-a", 2, state="TODO")
    house.fail(lease)
    house.rest(lease.video_id)
    house.sweep()
    assert house.keys() == {done}


@pytest.mark.parametrize("what", ["the attempt", "the objects"])
def test_nothing_goes_before_it_was_left_alone_for_long_enough(house: House, what: str) -> None:
    lease = house.rows.held()
    house.chunk(lease, "plan-a", 1)
    house.put(f"hls/{lease.video_id}/1-{uuid4()}/master.m3u8")
    house.publish(lease, seconds_ago=AGE if what == "the objects" else REST / 2)
    if what == "the objects":
        house.storage = S3(house.client, house.bucket)
    before = house.keys()
    assert house.sweep() == 0
    assert house.keys() == before


def test_a_stream_whose_chunks_the_tables_do_not_know_whole_is_left_alone(house: House) -> None:
    for state in ("TODO", "none"):
        lease = house.rows.held()
        house.chunk(lease, "plan-a", 1, state="TODO")
        house.put(f"hls/{lease.video_id}/1-{uuid4()}/master.m3u8")
        house.publish(lease)
        if state == "none":
            house.rows.sql("DELETE FROM video_plan WHERE video_id = %s", lease.video_id)
    house.rows.sql("DELETE FROM video WHERE id = %s", house.rows.held().video_id)
    before = house.keys()
    assert house.sweep() == 0
    assert house.keys() == before


def test_each_attempt_is_looked_after_once_by_one_host(house: House) -> None:
    lease = house.rows.held()
    house.chunk(lease, "plan-a", 1)
    house.publish(lease)
    media = Media(house.rows.database, rest_seconds=REST)
    assert media.take_unswept(10) == [lease.video_id]
    assert media.take_unswept(10) == []
    media.sweep_again([lease.video_id])
    assert media.take_unswept(10) == [lease.video_id]


def test_what_storage_refused_is_tried_again(house: House) -> None:
    leases = [house.rows.held() for _ in range(3)]
    for lease in leases:
        house.chunk(lease, "plan-a", 1)
        house.put(f"hls/{lease.video_id}/1-{uuid4()}/master.m3u8")
        house.publish(lease)
    refusals = itertools.count()

    class Refusing(OldStorage):
        def delete(self, keys: list[str]) -> None:
            if next(refusals) == 1:
                raise Unavailable("s3", "S3 is away.")
            super().delete(keys)

    house.storage = Refusing(house.client, house.bucket)
    with pytest.raises(Unavailable):
        house.sweep()
    assert house.sweep() == 2
    assert len(house.keys()) == 2 * len(leases)
