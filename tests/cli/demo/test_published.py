from __future__ import annotations

from pathlib import Path

from appliance.adapters.s3 import S3
from appliance.cli.demo import published
from appliance.local.aws import Aws

MASTER = (
    '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",URI="audio.m3u8"\n'
    '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="audio"\n720p.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8"\n'
)


def test_every_address_of_the_master_gets_the_directory_and_nothing_else_changes() -> None:
    assert published.relocated(MASTER, "1-abc").splitlines() == [
        "#EXTM3U",
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",URI="1-abc/audio.m3u8"',
        '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="audio"',
        "1-abc/720p.m3u8",
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="1-abc/i.m3u8"',
    ]


def test_the_tree_is_copied_unpacked_and_only_that_of_this_video(aws: Aws, bucket: str, tmp_path: Path) -> None:
    streams = S3(aws.client("s3"), bucket)
    how = {"content_type": "text/plain", "cache_control": "no-store"}
    streams.put_bytes("hls/7/1-abc/master.m3u8", MASTER.encode(), **how, gzip=True)
    streams.put_bytes("hls/7/media/f/0-t/a.m4s", b"segment", **how)
    streams.put_bytes("hls/77/media/f/0-t/a.m4s", b"another video", **how)
    master = published.copy(streams, "hls/7/1-abc/master.m3u8", tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"master.m3u8", "1-abc/master.m3u8", "media/f/0-t/a.m4s"}
    assert (tmp_path / "out/1-abc/master.m3u8").read_text() == MASTER
    assert master.read_text() == published.relocated(MASTER, "1-abc")
    assert master.is_absolute()
