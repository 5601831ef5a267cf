"""A storage that answers, and answers no: the whole pipeline on real servers, with a gate before S3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Encode
from appliance.domain.media import LadderStep
from appliance.encoder import patience
from appliance.local.aws import Aws
from tests.encoder.stage import World, encoder
from tests.gate import Gate
from tests.recordings import lecture

ENCODE = Encode(ladder=(LadderStep(90, 30, 200_000),), chunk_seconds=6.0, sprite_seconds=0)
DENIED = (403, "AccessDenied")


@pytest.fixture
def gate(aws: Aws) -> Iterator[Gate]:
    with Gate(aws) as gate:
        yield gate


@pytest.fixture
def shop(world: World, gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, with S3 behind the gate and nobody patient."""
    monkeypatch.setattr(patience, "REFUSED_SECONDS", 0.0)
    storage = replace(world.config.storage, bucket=bucket, source_bucket=bucket)
    aws = replace(world.config.aws, endpoint_url=gate.endpoint_url)
    return replace(world, config=replace(world.config, storage=storage, aws=aws, encode=ENCODE))


def uploaded(shop: World, aws: Aws, bucket: str, tmp_path: Path, **columns: Any) -> int:
    file = lecture(tmp_path / "lecture.mp4", seconds=12, size="160x90", rate="10")
    aws.client("s3").upload_file(str(file), bucket, "a.mp4")
    return shop.video(**columns)


@pytest.mark.parametrize(("failures", "status"), [(0, "UPLOADED"), (4, "FAILED")])
def test_f27_a_stream_that_may_not_be_written_is_charged_and_not_encoded_again(
    shop: World, gate: Gate, aws: Aws, bucket: str, tmp_path: Path, failures: int, status: str
) -> None:
    """Refused at the very end. Once the policy is mended nothing but the publishing is left to do."""
    gate.rule = lambda method, path: DENIED if (method, path[-5:]) == ("PUT", ".m3u8") else None
    video_id = uploaded(shop, aws, bucket, tmp_path, failure_count=failures)
    with encoder(shop, None) as running:
        running.until_logged("SQS_JOB_FAILED")
        row = shop.row(video_id)
        assert (row["status"], row["error_code"]) == (status, "storage_refused")
        assert "config/iam-policy.json" in row["error_reason"]
        assert row["failure_count"] == (1 if status == "UPLOADED" else 0)
        gate.rule = lambda method, path: None
        shop.query("UPDATE video SET status = 'UPLOADED', run_after = now()")
        running.until_status(video_id, "READY")
    refused, mended = shop.attempts(video_id)
    assert refused["receipt"]["chunks_encoded"] == mended["receipt"]["chunks_resumed"] > 1
    assert mended["receipt"]["chunks_encoded"] == 0


@pytest.mark.parametrize("answer", [DENIED, (403, "InvalidObjectState")], ids=["denied", "archived"])
def test_f28_a_source_that_may_not_be_read_is_charged(
    shop: World, gate: Gate, aws: Aws, bucket: str, tmp_path: Path, answer: tuple[int, str]
) -> None:
    gate.rule = lambda method, path: answer if path.endswith("/a.mp4") else None
    video_id = uploaded(shop, aws, bucket, tmp_path)
    with encoder(shop, None) as running:
        running.until_logged("SQS_JOB_FAILED")
    row = shop.row(video_id)
    assert (row["status"], row["error_code"], row["failure_count"]) == ("UPLOADED", "storage_refused", 1)


def test_f29_expired_credentials_are_charged_to_no_video(
    shop: World, gate: Gate, aws: Aws, bucket: str, tmp_path: Path
) -> None:
    gate.rule = lambda method, path: (400, "ExpiredToken") if path.endswith("/a.mp4") else None
    video_id = uploaded(shop, aws, bucket, tmp_path)
    with encoder(shop, None) as running:
        returned = running.until_logged("handler.handle() returned")
    assert returned["result"] == "released"
    assert (shop.status(video_id), shop.row(video_id)["failure_count"]) == ("UPLOADED", 0)
