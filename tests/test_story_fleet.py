"""Stories of many: two hosts, one database, more doorbells than videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.local.aws import Aws
from tests.hosts import World, eventually, host
from tests.recordings import lecture
from tests.test_story_takeover import SMALL_LADDER

VIDEOS = 20
RINGS_EACH = 3


@pytest.mark.parametrize("fast_ack", [True, False], ids=["fast-ack", "late-ack"])
def test_f04_twenty_videos_with_forty_duplicates_on_two_hosts_are_claimed_once_each(
    dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str, tmp_path: Path, *, fast_ack: bool
) -> None:
    world = World(dsn, redis_url, aws, bucket, queue_url)
    clip = lecture(tmp_path / "clip.mp4", seconds=2, size="160x90")
    videos = [world.upload(clip) for _ in range(VIDEOS if fast_ack else VIDEOS // 4)]
    for _ in range(RINGS_EACH):
        for video_id in videos:
            world.ring(video_id)
    changes = {"queue": {"fast_ack": fast_ack}, "encode": {"ladder": SMALL_LADDER}}
    with host(world, tmp_path / "a", **changes) as first, host(world, tmp_path / "b", **changes) as second:

        def all_ready() -> bool:
            rows = world.query("SELECT count(*) AS ready FROM video WHERE status = 'READY'")
            return int(rows[0]["ready"]) == len(videos)

        eventually(all_ready, seconds=120)
        # every doorbell is answered, the duplicates too
        eventually(lambda: _depth(world) == (0, 0))
        logs = first.log() + second.log()
    attempts = world.query("SELECT video_id, epoch, outcome FROM video_attempt")
    assert sorted(attempt["video_id"] for attempt in attempts) == sorted(videos)
    assert {attempt["outcome"] for attempt in attempts} == {"ready"}
    acks = [line for line in logs if line["event"] in ("VIDEO_FAST_ACK_APPLIED", "VIDEO_FAST_ACK_SKIPPED")]
    assert {line["event"] for line in acks} == {"VIDEO_FAST_ACK_APPLIED" if fast_ack else "VIDEO_FAST_ACK_SKIPPED"}


def _depth(world: World) -> tuple[int, int]:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = world.aws.client("sqs").get_queue_attributes(QueueUrl=world.queue_url, AttributeNames=names)
    return tuple(int(answer["Attributes"][name]) for name in names)  # type: ignore[return-value]
