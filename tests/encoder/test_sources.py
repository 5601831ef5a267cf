from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.adapters import aws as aws_adapter
from appliance.adapters.s3 import S3
from appliance.domain.errors import Draining, NoRoom, SourceRejected
from appliance.encoder.sources import Sources
from appliance.local.aws import Aws
from tests.encoder.test_pipeline import Desk

TYPE = {"content_type": "video/mp4", "cache_control": ""}


@pytest.fixture
def storage(aws: Aws, bucket: str) -> S3:
    return S3(aws_adapter.client("s3", region=aws.region, endpoint_url=aws.endpoint_url), bucket)


@pytest.fixture
def sources(storage: S3) -> Callable[..., Sources]:
    def sources(*, max_bytes: int = 1 << 30, floor_bytes: int = 0) -> Sources:
        return Sources(storage, max_bytes=max_bytes, floor_bytes=floor_bytes)

    return sources


def test_a_source_is_fetched_under_our_own_name(storage, sources, tmp_path: Path) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    job = Desk()
    fetched = sources()(job, tmp_path)
    assert (tmp_path / "source").read_bytes() == b"x" * 100
    assert fetched.size_bytes == 100
    assert fetched.etag
    assert job.percents


def test_f28_a_source_that_is_not_there_is_rejected(sources, tmp_path: Path) -> None:
    with pytest.raises(SourceRejected) as caught:
        sources()(Desk(), tmp_path)
    assert caught.value.code == "source_missing"


def test_a_source_larger_than_allowed_is_rejected_before_it_is_fetched(storage, sources, tmp_path: Path) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    with pytest.raises(SourceRejected) as caught:
        sources(max_bytes=99)(Desk(), tmp_path)
    assert caught.value.code == "too_large"
    assert not (tmp_path / "source").exists()


def test_f35_a_source_that_does_not_fit_on_this_host_is_left_to_another(storage, sources, tmp_path: Path) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    with pytest.raises(NoRoom):
        sources(floor_bytes=1 << 60)(Desk(), tmp_path)


def test_f37_a_drain_ends_a_download_at_once(storage, sources, tmp_path: Path) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    job = Desk()

    def leave() -> None:
        raise Draining("This encoder is leaving.")

    job.at_begin = leave
    with pytest.raises(Draining):
        sources()(job, tmp_path)
