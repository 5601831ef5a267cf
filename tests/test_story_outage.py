"""Stories of a database that goes away under a whole host."""

from __future__ import annotations

import time
from pathlib import Path

from appliance.local.aws import Aws
from appliance.local.postgres import Postgres
from tests.hosts import FAST, World, eventually, host
from tests.recordings import lecture
from tests.test_story_takeover import SMALL_LADDER

VIDEOS = 4


def test_f24_four_encodes_outlive_a_database_that_is_gone_for_longer_than_their_leases(
    postgres: Postgres, dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str, tmp_path: Path
) -> None:
    """Nothing is begun again: one attempt for each video, one for each chunk."""
    world = World(dsn, redis_url, aws, bucket, queue_url)
    clip = lecture(tmp_path / "clip.mp4", seconds=30, size="320x180", rate="15")
    videos = [world.upload(clip) for _ in range(VIDEOS)]
    encode = {"ladder": SMALL_LADDER, "chunk_seconds": 6}
    with host(world, tmp_path / "host", encode=encode, pool={"encoders": VIDEOS}) as running:
        done = "SELECT count(DISTINCT video_id) AS n FROM video_chunk WHERE state <> 'TODO'"
        eventually(lambda: world.query(done)[0]["n"] == VIDEOS)
        postgres.stop()
        time.sleep(FAST["lease"]["lease_seconds"] + 2)
        postgres.start()
        ready = "SELECT count(*) AS n FROM video WHERE status = 'READY'"
        eventually(lambda: world.query(ready)[0]["n"] == VIDEOS, seconds=120)
        assert running.events("ENCODER_ENDED") == []
        assert running.events("RECLAIMED") == []
        assert running.events("LEASE_LOST") == []
    for video_id in videos:
        assert [attempt["outcome"] for attempt in world.attempts(video_id)] == ["ready"]
    again = world.query("SELECT video_id, number, attempts FROM video_chunk WHERE attempts <> 1 OR state <> 'DONE'")
    assert again == []
