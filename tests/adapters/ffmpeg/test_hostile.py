"""Uploads that want something else than to be watched: F45 and F46, with the cage on and with it off."""

from __future__ import annotations

import resource
import struct
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import probe, tools
from appliance.adapters.ffmpeg.probe import Probe
from appliance.adapters.ffmpeg.run import Ended, Limits
from appliance.adapters.ffmpeg.sandbox import Cage
from appliance.domain.errors import ApplianceError, SourceRejected
from tests.canary import CanaryFile, CanaryServer

CAGES = {"caged": Cage(), "bare": Cage(landlock=False, seccomp=False)}
MIB = 1 << 20

MPD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"
profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
<Representation id="1" bandwidth="1"><BaseURL>http://127.0.0.1:PORT/x.mp4</BaseURL></Representation></AdaptationSet>
</Period></MPD>"""
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n%s\n#EXT-X-ENDLIST\n"
DISGUISES = {
    "playlist of a server": HLS % "http://127.0.0.1:PORT/secret.ts",
    "playlist of a file": HLS % "file://FILE",
    "playlist of a bare path": HLS % "FILE",
    "playlist with a key": HLS.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:PORT/k"\n#EXTINF')
    % "a.ts",
    "playlist of playlists": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://127.0.0.1:PORT/a.m3u8\n",
    "playlist that joins header and file": HLS % "concat:http://127.0.0.1:PORT/head|file:FILE",
    "concat script": "ffconcat version 1.0\nfile 'FILE'\n",
    "concat script of a server": "ffconcat version 1.0\nfile http://127.0.0.1:PORT/x\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video PORT RTP/AVP 96\n",
    "MPD": MPD,
    "smooth streaming manifest": '<SmoothStreamingMedia><StreamIndex Url="http://127.0.0.1:PORT/x"/></SmoothStreamingMedia>',
    "HTML": '<html><body><video src="http://127.0.0.1:PORT/x"></video></body></html>',
    "SVG": '<svg xmlns="http://www.w3.org/2000/svg"><image href="file://FILE"/></svg>',
    "RealMedia redirect": "rtsp://127.0.0.1:PORT/x\n",
    "ASX": '<asx version="3.0"><entry><ref href="http://127.0.0.1:PORT/x"/></entry></asx>',
    "script of filters": "movie=FILE[out0]",
}


@dataclass
class Yard:
    """A directory for the upload, and the two canaries."""

    room: Path
    server: CanaryServer
    file: CanaryFile
    spent: list[Ended]

    def upload(self, content: bytes) -> None:
        self.room.mkdir(exist_ok=True)
        (self.room / "source").write_bytes(content)

    def probe(self, cage: str, *, memory_bytes: int = 4 << 30, max_pixels: int = 1 << 26) -> object:
        limits = Limits(120, 120, memory_bytes, CAGES[cage])
        return Probe(tools.find(), limits, max_pixels, 12 * 3600)(self.room, lambda: None, self.spent.append)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    canary = tmp_path / "canary.mp4"
    _make(canary, "-f", "lavfi", "-i", "testsrc2=d=1:s=64x64:r=5")  # would be taken for the upload, if it were read
    with CanaryServer() as server, CanaryFile(canary, canary.read_bytes()) as file:
        yield Yard(tmp_path / "room", server, file, [])
        assert not file.opened
    assert server.connections == 0


@pytest.mark.parametrize("cage", CAGES)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_f45_a_text_disguised_as_video_is_rejected_and_reaches_nothing(yard: Yard, disguise: str, cage: str) -> None:
    yard.upload(
        DISGUISES[disguise].replace("PORT", str(yard.server.port)).replace("FILE", str(yard.file.path)).encode()
    )
    with pytest.raises(SourceRejected) as caught:
        yard.probe(cage)
    assert caught.value.code == "not_media"


@pytest.mark.parametrize("cage", CAGES)
def test_f45_the_disguises_of_the_corpus(yard: Yard, corpus: Path, cage: str) -> None:
    names = ("concat_script.mkv", "dash_mpd.mp4", "lfi_file_playlist.mov", "ssrf_http_playlist.mp4", "page.mp4")
    for name in names:
        content = (corpus / "_crafted" / name).read_bytes()
        content = content.replace(b"/etc/passwd", str(yard.file.path).encode())
        yard.upload(content.replace(b"127.0.0.1:9/", f"127.0.0.1:{yard.server.port}/".encode()))
        with pytest.raises(SourceRejected) as caught:
            yard.probe(cage)
        assert caught.value.code == "not_media", name


@pytest.mark.parametrize("cage", CAGES)
def test_f45_an_mp4_whose_samples_lie_in_another_file_opens_nothing(yard: Yard, tmp_path: Path, cage: str) -> None:
    _make(tmp_path / "whole.mp4", "-f", "lavfi", "-i", "testsrc2=d=1:s=64x64:r=5")
    yard.upload(_elsewhere((tmp_path / "whole.mp4").read_bytes(), yard.file.path))
    with pytest.raises(SourceRejected):
        yard.probe(cage)
    assert not yard.file.opened
    follows = [tools.find().ffmpeg, "-v", "error", "-nostdin", "-enable_drefs", "1", "-use_absolute_path", "1"]
    subprocess.run([*follows, "-i", yard.room / "source", "-f", "null", "-"], check=False, capture_output=True)
    assert yard.file.opened  # so this test can fail


def _elsewhere(mp4: bytes, path: Path) -> bytes:
    """The same MP4 (its `moov` the last box) with a Macintosh alias for its data (QuickTime File Format, `dref`)."""
    name = str(path).encode()
    name += b"\0" * (len(name) % 2)
    alias = bytes(150) + struct.pack(">hH", 2, len(name)) + name + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    return _replaced(mp4, [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"], struct.pack(">II", 0, 1) + entry)


def _replaced(boxes: bytes, path: list[bytes], content: bytes) -> bytes:
    """With the content of the box at this path replaced, and the boxes around it made longer."""
    made, at = b"", 0
    while at < len(boxes):
        size, kind = struct.unpack_from(">I4s", boxes, at)
        body = boxes[at + 8 : at + size]
        if kind == path[0]:
            body = _replaced(body, path[1:], content) if path[1:] else content
        made, at = made + struct.pack(">I4s", 8 + len(body), kind) + body, at + size
    return made


def test_the_canaries_see_who_comes(tmp_path: Path) -> None:
    """So that the tests above can fail."""
    with CanaryServer() as server, CanaryFile(tmp_path / "canary", b"x") as file:
        assert not file.opened
        command = [tools.find().ffmpeg, "-v", "error", "-nostdin"]
        subprocess.run([*command, "-i", f"http://127.0.0.1:{server.port}/"], check=False, capture_output=True)
        subprocess.run([*command, "-i", f"file:{file.path}"], check=False, capture_output=True)
        assert file.opened
        assert not file.opened
    assert server.connections > 0


def test_f46_a_picture_of_256_million_pixels_is_refused_before_it_is_decoded(yard: Yard, tmp_path: Path) -> None:
    yard.upload(_bomb(tmp_path))
    with pytest.raises(SourceRejected) as caught:
        yard.probe("caged")
    assert caught.value.code in ("too_large", "corrupt", "unsupported", "not_media")
    assert _most(yard) < 128 * MIB


def test_f46_where_the_operator_allows_such_pictures_memory_is_bounded_all_the_same(yard: Yard, tmp_path: Path) -> None:
    yard.upload(_bomb(tmp_path))
    with pytest.raises(ApplianceError):
        yard.probe("caged", max_pixels=1 << 30, memory_bytes=256 * MIB)
    assert _most(yard) < 256 * MIB


def _most(yard: Yard) -> int:
    """Bytes of memory, beyond those of this process: Linux counts what a program was forked from as its own peak."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(ended.peak_memory_bytes for ended in yard.spent) - own


@pytest.mark.parametrize("cage", CAGES)
def test_f46_the_bombs_of_the_corpus(yard: Yard, corpus: Path, cage: str) -> None:
    codes = {}
    for name in ("huge_16000x16000_1frame.mkv", "timestamp_gap_100000s.mkv", "random_64k.mp4"):
        yard.upload((corpus / "_crafted" / name).read_bytes())
        try:
            yard.probe(cage)
        except SourceRejected as error:
            codes[name] = error.code
    assert codes["huge_16000x16000_1frame.mkv"] == "too_large"
    assert codes["random_64k.mp4"] == "not_media"
    assert max(ended.peak_memory_bytes for ended in yard.spent) < 512 * MIB


def test_f46_a_header_that_claims_forty_hours_is_not_believed(yard: Yard, tmp_path: Path) -> None:
    _make(tmp_path / "short.mkv", "-f", "lavfi", "-i", "testsrc2=d=1:s=64x64:r=5")
    content = (tmp_path / "short.mkv").read_bytes()
    marker = b"\x44\x89\x88"  # Segment/Info/Duration, a float of eight bytes, in milliseconds (RFC 9559 §5.1.2.9)
    at = content.index(marker) + len(marker)
    yard.upload(content[:at] + struct.pack(">d", 40 * 3600 * 1000.0) + content[at + 8 :])
    found = yard.probe("caged")
    assert 0.9 < float(found.end_seconds) < 1.1  # type: ignore[attr-defined]


@pytest.mark.parametrize("bound", ["DESCRIPTION_BYTES", "PACKETS_BYTES"])
def test_f46_a_file_that_tells_without_end_does_not_fill_the_encoders_memory(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    _make(tmp_path / "talkative.mkv", "-f", "lavfi", "-i", "testsrc2=d=3:s=64x64:r=30", "-metadata", f"x={'y' * 3000}")
    yard.upload((tmp_path / "talkative.mkv").read_bytes())
    assert yard.probe("caged")
    monkeypatch.setattr(probe, bound, 1000)
    with pytest.raises(SourceRejected) as caught:
        yard.probe("caged")
    assert caught.value.code == "too_large"


def _bomb(directory: Path) -> bytes:
    """A PNG of 16000 × 16000 in a Matroska file: 32 kB."""
    side = 16_000

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + side // 8) * side), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (directory / "bomb.png").write_bytes(png)
    _make(directory / "bomb.mkv", "-f", "png_pipe", "-i", str(directory / "bomb.png"), "-c", "copy")
    return (directory / "bomb.mkv").read_bytes()


def _make(path: Path, *options: str) -> None:
    subprocess.run([tools.find().ffmpeg, "-v", "error", "-y", *options, f"file:{path}"], check=True)
