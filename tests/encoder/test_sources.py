from __future__ import annotations

import os
import re
import shutil
import threading
import time
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
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} - {"sources"}
    assert {"room", "room/source"} == {name for name in made if not re.fullmatch("sources/[0-9a-f]{64}", name)}


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


# --- the host's cache -------------------------------------------------------------------------------------------------


def room(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made / "source"


def filled(size: int) -> Callable[[Path], None]:
    return lambda part: part.write_bytes(b"x" * size) and None


def never(_part: Path | None = None) -> None:
    raise AssertionError("nothing is to be fetched or waited for")


def kept(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.directory.iterdir())


def test_a_source_is_fetched_once_for_all_slots_of_the_host(storage, sources, tmp_path: Path, monkeypatch) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    first, second = room(tmp_path, "a").parent, room(tmp_path, "b").parent
    assert sources()(Desk(), first).bytes_in == 100
    monkeypatch.setattr(storage, "download", never)
    again = sources()(Desk(), second)
    assert (again.bytes_in, again.size_bytes) == (0, 100)
    assert (first / "source").samefile(second / "source")


def test_another_etag_is_another_source(storage, sources, tmp_path: Path) -> None:
    for text, name in ((b"old", "a"), (b"new", "b")):
        storage.put_bytes("key", text, **TYPE)
        sources()(Desk(), room(tmp_path, name).parent)
        assert (tmp_path / name / "source").read_bytes() == text


def test_slots_that_come_together_wait_for_one_download_and_may_leave(cache: Cache, tmp_path: Path) -> None:
    writing, go, waits = threading.Event(), threading.Event(), []

    def slowly(part: Path) -> None:
        part.write_bytes(b"half")
        writing.set()
        assert go.wait(30)
        part.write_bytes(b"whole")

    first = threading.Thread(target=cache.make, args=("name", room(tmp_path, "a"), slowly, never))
    first.start()
    assert writing.wait(30)

    def wait() -> None:
        waits.append(1)
        if len(waits) == 1:
            raise Draining("This encoder is leaving.")
        go.set()
        time.sleep(0.01)

    target = room(tmp_path, "b")
    with pytest.raises(Draining):
        cache.make("name", target, never, wait)
    assert not target.exists()
    assert cache.make("name", target, never, wait) is False
    first.join()
    assert target.read_bytes() == (tmp_path / "a" / "source").read_bytes() == b"whole"
    assert kept(cache) == ["name"]


def test_a_download_that_breaks_off_leaves_nothing(cache: Cache, tmp_path: Path) -> None:
    def broken(part: Path) -> None:
        part.write_bytes(b"half")
        raise Draining("This encoder is leaving.")

    target = room(tmp_path, "a")
    with pytest.raises(Draining):
        cache.make("name", target, broken, never)
    assert kept(cache) == []
    assert cache.make("name", target, filled(5), never)
    assert target.read_bytes() == b"xxxxx"


def test_f36_what_a_killed_slot_left_half_is_never_taken_for_whole_and_is_swept(cache: Cache, tmp_path: Path) -> None:
    cache.directory.mkdir()
    for name in ("name.part", "other.part"):
        (cache.directory / name).write_bytes(b"half")
    target = room(tmp_path, "a")
    assert cache.make("name", target, filled(5), never)
    assert target.read_bytes() == b"xxxxx"
    cache.shrink()
    assert kept(cache) == ["name"]


def test_the_sweep_leaves_a_download_that_is_running(cache: Cache, tmp_path: Path) -> None:
    def swept(part: Path) -> None:
        part.write_bytes(b"x" * 2000)
        cache.shrink()

    assert cache.make("name", room(tmp_path, "a"), swept, never)


def test_what_was_not_used_for_the_longest_time_goes_first_and_what_is_in_use_never(
    cache: Cache, tmp_path: Path
) -> None:
    for name in ("used", "old", "older", "new"):
        cache.make(name, room(tmp_path, name), filled(300), never)
        if name != "used":
            (tmp_path / name / "source").unlink()
    for age, name in enumerate(("new", "old", "older", "used")):
        os.utime(cache.directory / name, (1000 - age, 1000 - age))
    cache.shrink()
    assert kept(cache) == ["new", "old", "used"]
    cache.shrink(coming_bytes=600)
    assert kept(cache) == ["used"]
    cache.shrink(wanted_bytes=1 << 40)
    assert kept(cache) == ["used"]
    (tmp_path / "used" / "source").unlink()
    cache.shrink(coming_bytes=600)
    assert kept(cache) == ["used"]
    cache.shrink(wanted_bytes=1)
    assert kept(cache) == []


def test_a_use_makes_a_source_young_again(cache: Cache, tmp_path: Path) -> None:
    for name in ("a", "b"):
        cache.make(name, room(tmp_path, name), filled(600), never)
        (tmp_path / name / "source").unlink()
        os.utime(cache.directory / name, (1000, 1000))
    cache.make("a", room(tmp_path, "again"), never, never)
    (tmp_path / "again" / "source").unlink()
    cache.shrink()
    assert kept(cache) == ["a"]


def test_f35_a_cache_that_fills_the_disk_makes_room_before_a_job_is_refused(
    storage, sources, cache: Cache, tmp_path: Path, monkeypatch
) -> None:
    storage.put_bytes("key", b"x" * 100, **TYPE)
    cache.make("idle", room(tmp_path, "a"), filled(500), never)
    (tmp_path / "a" / "source").unlink()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=50 if (cache.directory / "idle").exists() else 550)
    )
    sources(floor_bytes=300)(Desk(), room(tmp_path, "b").parent)
    assert not (cache.directory / "idle").exists()
