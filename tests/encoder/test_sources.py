from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.adapters import aws as aws_adapter
from appliance.adapters.s3 import S3
from appliance.domain.errors import Draining, NoRoom, SourceRejected
from appliance.encoder.sources import Cache, Sources
from appliance.local.aws import Aws
from tests.encoder.test_pipeline import Desk

TYPE = {"content_type": "video/mp4", "cache_control": ""}


@pytest.fixture
def storage(aws: Aws, bucket: str) -> S3:
    return S3(aws_adapter.client("s3", region=aws.region, endpoint_url=aws.endpoint_url), bucket)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "sources", 1000)


@pytest.fixture
def sources(storage: S3, cache: Cache) -> Callable[..., Sources]:
    def sources(*, max_bytes: int = 1 << 30, floor_bytes: int = 0) -> Sources:
        return Sources(storage, cache, max_bytes=max_bytes, floor_bytes=floor_bytes)

    return sources


def test_a_source_is_fetched_under_our_own_name(storage, sources, tmp_path: Path) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    job = Desk()
    fetched = sources()(job, tmp_path)
    assert (tmp_path / "source").read_bytes() == b"x" * 100
    assert fetched.size_bytes == 100
    assert fetched.etag
    assert job.percents


#: F47: names as users and clients make them.
NAMES = {
    "quotes": 'lectures/"it\'s" `here`.mp4',
    "a query": "lectures/what?is=this&that#there.mp4",
    "a leading dash": "-i.mp4",
    "an option": "-y -f lavfi -i testsrc",
    "dots": "../../../etc/passwd",
    "dots within": "lectures/../../secret/./x.mp4",
    "a leading slash": "/etc/passwd",
    "a thousand bytes": "x" * 1020 + ".mp4",
    "other letters": "강의/ファイル%20%2e%2e%2f +.mp4",
    "a tab": "a\tb.mp4",
    "a protocol": "concat:a|b",
    "a shell": "$(touch pwned);`id`|x.mp4",
}


@pytest.mark.parametrize("name", NAMES)
def test_f47_whatever_the_file_is_called_it_is_fetched_under_our_own_name(
    storage, sources, tmp_path: Path, name
) -> None:
    storage.put_bytes(NAMES[name], name.encode(), **TYPE)
    job = Desk()
    job.lease = replace(job.lease, file_key=NAMES[name])
    room = tmp_path / "room"
    room.mkdir()
    sources()(job, room)
    assert (room / "source").read_text() == name
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["room", "room/source"]


@pytest.mark.parametrize("key", ["", "x" * 1025])
def test_f47_a_key_that_no_object_can_have_ends_the_video(sources, tmp_path, key) -> None:
    job = Desk()
    job.lease = replace(job.lease, file_key=key)
    with pytest.raises(SourceRejected) as caught:
        sources()(job, tmp_path)
    assert caught.value.code == "source_missing"


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
