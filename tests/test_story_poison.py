"""The story of a recording that kills whoever touches one part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.local.aws import Aws
from tests.hosts import World, eventually, host
from tests.recordings import lecture
from tests.test_story_takeover import SMALL_LADDER

#: The encoder in whose directory of this chunk it runs dies of SIGKILL, as of an exhausted memory.
POISON = 2
PROGRAM = f"""#!/bin/sh
[ -d chunk-{POISON} ] && kill -9 $(awk '/^PPid:/ {{{{ print $2 }}}}' /proc/$PPID/status)
exec {{real}} "$@"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "ffmpeg"
    path.write_text(PROGRAM.format(real=tools.find().ffmpeg))
    path.chmod(0o755)
    return path


def test_f54_f32_a_chunk_that_kills_whoever_takes_it_ends_its_video_and_nothing_else(
    dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str, tmp_path: Path, program: Path
) -> None:
    """Two assistants die of it, then only owners do, and `max_losses` owners without one more chunk are enough."""
    world = World(dsn, redis_url, aws, bucket, queue_url)
    changes = {
        "ffmpeg": {"ffmpeg": str(program)},
        "sandbox": {"landlock": False, "seccomp": False},  # in its cage the program could harm nobody
        "lease": {"max_losses": 2},
        "pool": {"encoders": 3, "backoff_first_seconds": 0.2, "backoff_cap_seconds": 0.5},
        "encode": {"ladder": SMALL_LADDER, "chunk_seconds": 6, "sprite_seconds": 0},
    }
    with host(world, tmp_path / "host", **changes) as running:
        poisoned = world.upload(lecture(tmp_path / "long.mp4", seconds=30, size="160x90", rate="10"))
        eventually(lambda: world.row(poisoned)["status"] == "FAILED")
        harmless = world.upload(lecture(tmp_path / "short.mp4", seconds=2, size="160x90", rate="10"))
        eventually(lambda: world.row(harmless)["status"] == "READY")
        deaths = [death["reason"] for death in running.events("ENCODER_ENDED")]
        assert running.process.poll() is None
    row = world.row(poisoned)
    assert (row["error_code"], row["failure_count"]) == ("crashed_encoder", 0)
    owners = [attempt["outcome"] for attempt in world.attempts(poisoned)]
    assert set(owners) == {"abandoned"}
    chunk = world.query("SELECT * FROM video_chunk WHERE video_id = %s AND number = %s", poisoned, POISON)[0]
    assert chunk["assistant_losses"] <= 2
    assert deaths == ["killed"] * chunk["attempts"]
    assert chunk["attempts"] == chunk["assistant_losses"] + len(owners)
