"""submit, list, show, retry and cancel: one video's way as an operator steers it, with no encoder about."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from appliance.adapters.postgres.connection import AmbiguousCommit
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.redis import Telemetry
from appliance.cli.shapes import Progress
from appliance.domain.video import Lease, Worker
from tests.hosts import World
from tests.shell import appliance, command, environment


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Lecture 1.MP4"
    path.write_bytes(b"a recording")
    return path


def rings(world: World) -> list[int]:
    """The ids that the queue's messages name; they are taken out."""
    client = world.aws.client("sqs")
    found = []
    while messages := client.receive_message(QueueUrl=world.queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(json.loads(message["Body"])["video_id"])
            client.delete_message(QueueUrl=world.queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found


def processing(world: World, settings: Path, file: Path) -> Lease:
    """A video in the hands of an owner."""
    video_id = appliance("submit", file, "--config", settings, "--json").last["video_id"]
    lease = Lease(video_id, 1, "", uuid.uuid4(), 1, Worker("host", "worker-a"))
    world.query(
        "UPDATE video SET status = 'PROCESSING', lease_token = %s, lease_epoch = 1, leased_by = 'worker-a',"
        " leased_until = now() + interval '1 hour', renewed_at = now() WHERE id = %s",
        str(lease.token),
        video_id,
    )
    world.query(
        "INSERT INTO video_attempt (token, video_id, epoch, host, worker, started_at)"
        " VALUES (%s, %s, 1, 'host', 'worker-a', now())",
        str(lease.token),
        video_id,
    )
    return lease


def test_a_file_is_uploaded_under_a_key_of_its_own_inserted_and_rung(world: World, settings: Path, file: Path) -> None:
    ran = appliance("submit", file, "--tenant", 7, "--priority", 3, "--config", settings, "--json")
    assert ran.status == 0
    row = world.row(ran.last["video_id"])
    assert (row["status"], row["tenant_id"], row["priority"]) == ("UPLOADED", 7, 3)
    assert row["file_key"].startswith("uploads/")
    assert row["file_key"].endswith(".mp4")
    assert world.objects("uploads/") == {row["file_key"]: b"a recording"}
    assert rings(world) == [row["id"]]


@pytest.mark.parametrize("address", ["s3://sources/a.mp4", "s3://{bucket}/sources/a.mp4"])
def test_a_key_that_is_there_is_submitted_without_an_upload(world: World, settings: Path, address: str) -> None:
    world.aws.client("s3").put_object(Bucket=world.bucket, Key="sources/a.mp4", Body=b"x")
    ran = appliance("submit", address.format(bucket=world.bucket), "--config", settings, "--json")
    assert ran.status == 0
    assert world.row(ran.last["video_id"])["file_key"] == "sources/a.mp4"
    assert list(world.objects("uploads/")) == []


@pytest.mark.parametrize("what", ["s3://sources/none.mp4", "/nowhere/none.mp4"])
def test_a_source_that_is_missing_makes_no_row(world: World, settings: Path, what: str) -> None:
    ran = appliance("submit", what, "--config", settings, "--json")
    assert (ran.status, ran.last["error"]["code"]) == (1, "source_missing")
    assert world.query("SELECT id FROM video") == []


def test_a_database_that_refuses_the_row_leaves_no_upload_behind(world: World, settings: Path, file: Path) -> None:
    world.query("ALTER TABLE video ADD CHECK (tenant_id <> 13)")
    ran = appliance("submit", file, "--tenant", 13, "--config", settings)
    assert ran.status == 1
    assert world.objects("uploads/") == {}


def test_an_id_rings_for_a_row_that_the_platform_made(world: World, settings: Path) -> None:
    row = world.query("INSERT INTO video (status, file_key, tenant_id) VALUES ('UPLOADED', 'a', 1) RETURNING id")[0]
    assert appliance("submit", row["id"], "--config", settings).status == 0
    assert rings(world) == [row["id"]]
    unknown = appliance("submit", 999, "--config", settings, "--json")
    assert (unknown.status, unknown.last["error"]["code"]) == (1, "not_queued")


@pytest.mark.parametrize(("status", "exit_status"), [("READY", 0), ("FAILED", 1)])
def test_wait_ends_with_the_video(world: World, settings: Path, file: Path, status: str, exit_status: int) -> None:
    with subprocess.Popen(
        command("submit", file, "--wait", "--config", settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "waiting …\n"
        world.query("UPDATE video SET status = %s, error_reason = 'It is torn.', hls_path = 'hls/m.m3u8'", status)
        out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == exit_status
    assert out.splitlines()[-1].endswith({"READY": "hls/m.m3u8", "FAILED": "It is torn."}[status])


def test_a_wait_that_loses_the_database_says_that_the_video_goes_on(world: World, settings: Path, file: Path) -> None:
    world.query("ALTER TABLE video_attempt RENAME TO elsewhere")
    ran = appliance("submit", file, "--wait", "--config", settings)
    assert (ran.status, "The video goes on: `video-appliance show 1`" in ran.err) == (69, True)
    assert "Video 1 is in the queue." in ran.out


def test_a_row_that_may_have_been_made_keeps_its_upload(
    world: World, settings: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> int:
        raise AmbiguousCommit("postgres", "The connection was lost during `submit`.")

    monkeypatch.setattr(Leases, "submit", lost)
    ran = appliance("submit", file, "--config", settings)
    assert (ran.status, "`video-appliance list`" in ran.err) == (69, True)
    assert len(world.objects("uploads/")) == 1


def test_show_tells_row_attempts_and_live_progress(world: World, settings: Path, file: Path) -> None:
    lease = processing(world, settings, file)
    telemetry = Telemetry(world.redis_url)
    telemetry.progress(
        lease, {**dict.fromkeys(Progress.__annotations__, 1), "percent": 41.5, "step": "encode", "step_name": "encode"}
    )
    telemetry.close()
    found = appliance("show", lease.video_id, "--config", settings, "--json").last
    assert found["status"] == "PROCESSING"
    assert [attempt["worker"] for attempt in found["attempts"]] == ["worker-a"]
    assert found["progress"]["percent"] == 41.5
    told = appliance("show", lease.video_id, "--config", settings).out
    assert "worker-a" in told
    assert "41.5" in told
    assert "\x1b" not in told


def test_show_works_without_redis(world: World, settings: Path, file: Path) -> None:
    lease = processing(world, settings, file)
    port = world.redis_url.rsplit(":", 1)[1].split("/")[0]
    settings.write_text(settings.read_text().replace(f":{port}/0", ":9/0"))
    ran = appliance("show", lease.video_id, "--config", settings, "--json")
    assert (ran.status, ran.last["progress"]) == (0, None)


def test_a_video_that_does_not_exist_is_said_to(world: World, settings: Path) -> None:
    ran = appliance("show", 12345, "--config", settings, "--json")
    assert (ran.status, ran.last["error"]["code"]) == (1, "unknown_video")


def test_list_shows_videos_and_survives_what_strangers_write(world: World, settings: Path, file: Path) -> None:
    assert "There is no video yet" in appliance("list", "--config", settings).out
    lease = processing(world, settings, file)
    world.query("UPDATE video SET file_key = %s WHERE id = %s", "[red]\x1b[2Jevil[/red]", lease.video_id)
    told = appliance("list", "--config", settings).out
    assert "[red]�[2Jevil[/red]" in told
    assert "worker-a" in told
    assert [video["video_id"] for video in appliance("list", "--config", settings, "--json").objects] == [
        lease.video_id
    ]


def test_list_shows_what_nobody_has_begun_and_one_status_alone(world: World, settings: Path, file: Path) -> None:
    running = processing(world, settings, file).video_id
    waiting = appliance("submit", file, "--config", settings, "--json").last["video_id"]
    told = appliance("list", "--config", settings).out.splitlines()
    assert [word for line in told for word in ("never begun", "at worker-a") if word in line] == [
        "never begun",
        "at worker-a",
    ]
    for status, video_id in (("uploaded", waiting), ("PROCESSING", running)):
        found = appliance("list", "--status", status, "--config", settings, "--json").objects
        assert [video["video_id"] for video in found] == [video_id]
    assert "No video is FAILED" in appliance("list", "--status", "failed", "--config", settings).out


def test_a_pending_row_is_handed_in_by_id_once_its_source_is_there(world: World, settings: Path) -> None:
    rows = "INSERT INTO video (status, file_key, tenant_id) VALUES ('PENDING', 'sources/late.mp4', 4) RETURNING id"
    video_id = world.query(rows)[0]["id"]
    early = appliance("submit", video_id, "--config", settings, "--json")
    assert (early.status, early.last["error"]["code"]) == (1, "source_missing")
    assert (world.row(video_id)["status"], rings(world)) == ("PENDING", [])
    world.aws.client("s3").put_object(Bucket=world.bucket, Key="sources/late.mp4", Body=b"x")
    assert appliance("submit", video_id, "--config", settings).status == 0
    assert (world.row(video_id)["status"], rings(world)) == ("UPLOADED", [video_id])


def test_cancel_and_retry_take_a_video_out_and_put_it_back(world: World, settings: Path, file: Path) -> None:
    video_id = appliance("submit", file, "--config", settings, "--json").last["video_id"]
    rings(world)
    assert appliance("cancel", video_id, "--config", settings).status == 0
    assert (world.row(video_id)["status"], world.row(video_id)["error_code"]) == ("FAILED", "cancelled")
    again = appliance("cancel", video_id, "--config", settings)
    assert again.status == 1
    assert "was not cancelled" in again.out
    assert appliance("retry", video_id, "--config", settings).status == 0
    assert world.row(video_id)["status"] == "UPLOADED"
    assert rings(world) == [video_id]


def test_cancel_marks_a_running_video_and_retry_leaves_it_alone(world: World, settings: Path, file: Path) -> None:
    lease = processing(world, settings, file)
    assert appliance("cancel", lease.video_id, "--config", settings).status == 0
    row = world.row(lease.video_id)
    assert row["cancel_requested_at"] is not None
    ran = appliance("retry", lease.video_id, "--config", settings, "--json")
    assert (ran.status, ran.last["queued"]) == (1, False)
    assert world.row(lease.video_id) == row


def test_cancel_and_retry_say_that_a_video_is_unknown(world: World, settings: Path) -> None:
    assert appliance("cancel", 999, "--config", settings).status == 1
    ran = appliance("retry", 999, "--config", settings)
    assert ran.status == 1
    assert "unknown" in ran.out
