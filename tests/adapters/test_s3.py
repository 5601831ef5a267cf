"""Storage on moto's S3, over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appliance.adapters import aws as aws_adapter
from appliance.adapters import s3 as s3_adapter
from appliance.adapters.s3 import S3, Head
from appliance.domain.errors import Cancelled, Refused, SourceRejected, Transient, Unavailable
from tests.gate import Gate

TYPE = {"content_type": "video/mp4", "cache_control": "max-age=60"}


@pytest.fixture
def client(aws):
    client = aws_adapter.client("s3", region=aws.region, endpoint_url=aws.endpoint_url)
    yield client
    client.close()


@pytest.fixture
def s3(client, bucket):
    return S3(client, bucket)


def never():
    """A check that lets the job go on."""


def test_what_was_put_is_got_with_its_type_cache_rule_and_checksum(s3, client, bucket):
    s3.put_bytes("a/b.m3u8", b"#EXTM3U", content_type="application/vnd.apple.mpegurl", cache_control="max-age=60")
    found = client.head_object(Bucket=bucket, Key="a/b.m3u8", ChecksumMode="ENABLED")
    assert found["ContentType"] == "application/vnd.apple.mpegurl"
    assert found["CacheControl"] == "max-age=60"
    assert found["ChecksumCRC32"]
    assert s3.read("a/b.m3u8").data == b"#EXTM3U"


def test_gzip_lies_compressed_says_so_and_reads_back_plain(s3, client, bucket):
    text = b"#EXTINF:6.000,\n" * 500
    s3.put_bytes("p.m3u8", text, **TYPE, gzip=True)
    raw = client.get_object(Bucket=bucket, Key="p.m3u8")
    body = raw["Body"].read()
    assert raw["ContentEncoding"] == "gzip"
    assert len(body) < len(text)
    assert gzip.decompress(body) == text
    assert s3.read("p.m3u8").data == text


def test_a_small_file_is_one_put(s3, client, bucket, tmp_path):
    path = tmp_path / "segment.m4s"
    path.write_bytes(b"x" * 1000)
    s3.put_file("media/segment.m4s", path, **TYPE)
    found = client.head_object(Bucket=bucket, Key="media/segment.m4s", ChecksumMode="ENABLED")
    assert (found["ContentLength"], found["ContentType"], found["CacheControl"]) == (1000, "video/mp4", "max-age=60")
    assert found["ChecksumCRC32"]


def test_a_large_file_goes_in_parts(s3, client, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3_adapter, "MULTIPART_BYTES", 6 * s3_adapter.MIB)
    monkeypatch.setattr(s3_adapter, "PART_BYTES", 5 * s3_adapter.MIB)
    path = tmp_path / "large.m4s"
    path.write_bytes(os.urandom(7 * s3_adapter.MIB))
    sent = []
    s3.put_file("large.m4s", path, **TYPE, sent=sent.append)
    assert (sum(sent), len(sent) > 1) == (7 * s3_adapter.MIB, True)
    found = client.head_object(Bucket=bucket, Key="large.m4s")
    assert found["ETag"].strip('"').endswith("-2")
    assert found["ContentType"] == "video/mp4"
    assert s3.read("large.m4s").data == path.read_bytes()


def test_a_download_is_the_object_and_asks_after_each_piece(s3, tmp_path):
    data = os.urandom(3 * s3_adapter.MIB + 5)
    s3.put_bytes("source.mp4", data, **TYPE)
    head = s3.head("source.mp4")
    assert head == Head(len(data), head.etag)
    assert '"' not in head.etag
    asked = []
    s3.download("source.mp4", tmp_path / "source", if_match=head.etag, check=lambda: asked.append(1))
    assert (tmp_path / "source").read_bytes() == data
    assert len(asked) >= 4


def test_an_empty_object_downloads_to_an_empty_file(s3, tmp_path):
    s3.put_bytes("empty", b"", **TYPE)
    s3.download("empty", tmp_path / "source", if_match=s3.head("empty").etag, check=never)
    assert (tmp_path / "source").read_bytes() == b""


def test_what_check_raises_ends_the_download(s3, tmp_path):
    s3.put_bytes("source.mp4", os.urandom(2 * s3_adapter.MIB), **TYPE)

    def cancel():
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        s3.download("source.mp4", tmp_path / "source", if_match=s3.head("source.mp4").etag, check=cancel)
    assert (tmp_path / "source").stat().st_size <= s3_adapter.READ_BYTES


@pytest.mark.parametrize("key", ["missing.mp4", "../escape?&'\"", "-dash"])
def test_f28_a_missing_source_is_the_uploads_fault(s3, tmp_path, key):
    with pytest.raises(SourceRejected) as raised:
        s3.head(key)
    assert raised.value.code == "source_missing"
    with pytest.raises(SourceRejected):
        s3.download(key, tmp_path / "source", if_match="x", check=never)


def test_f28_a_source_that_changed_is_tried_again_from_the_start(s3, tmp_path):
    s3.put_bytes("source.mp4", b"one", **TYPE)
    head = s3.head("source.mp4")
    s3.put_bytes("source.mp4", b"two", **TYPE)
    with pytest.raises(Transient) as raised:
        s3.download("source.mp4", tmp_path / "source", if_match=head.etag, check=never)
    assert raised.value.code == "source_changed"


def test_a_missing_bucket_is_not_the_uploads_fault(client, tmp_path):
    with pytest.raises(Unavailable) as raised:
        S3(client, "no-such-bucket-anywhere").head("a.mp4")
    assert raised.value.dependency == "s3"
    with pytest.raises(Unavailable):
        S3(client, "no-such-bucket-anywhere").download("a.mp4", tmp_path / "source", if_match="x", check=never)


@pytest.fixture
def behind(aws, bucket):
    """`behind(rule)`: the bucket as it is seen through a gate; `behind.heard`: how its calls ended."""
    with Gate(aws) as gate:
        client = aws_adapter.client("s3", region=aws.region, endpoint_url=gate.endpoint_url, tries=1)

        def behind(rule):
            gate.rule = rule
            return S3(client, bucket, lambda _, error: behind.heard.append(error))

        behind.heard = []
        yield behind
        client.close()


def calls(s3, path):
    """Every way in which a job meets its storage."""
    path.write_bytes(b"x")
    return {
        "head": lambda: s3.head("a.mp4"),
        "download": lambda: s3.download("a.mp4", path, if_match="x", check=never),
        "put_file": lambda: s3.put_file("a.mp4", path, **TYPE),
        "put_bytes": lambda: s3.put_bytes("a.mp4", b"x", **TYPE),
        "read": lambda: s3.read("a.mp4"),
        "sizes": lambda: s3.sizes("a"),
    }


@pytest.mark.parametrize(
    ("status", "code", "cure"),
    [
        (403, "AccessDenied", "s3:ListBucket"),
        (400, "KMS.DisabledException", "KMS key"),
        (403, "InvalidObjectState", "Restore it"),
    ],
)
def test_f27_what_is_refused_is_told_apart_from_what_is_away_and_with_its_cure(behind, tmp_path, status, code, cure):
    for name, call in calls(behind(lambda *_: (status, code)), tmp_path / "file").items():
        if (name, status) == ("head", 400):
            continue  # neither says why: the download that follows does
        with pytest.raises(Refused) as raised:
            call()
        assert raised.value.code == "storage_refused"
        assert cure in raised.value.sentence
        assert behind.heard[-1] is None  # it answers


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ExpiredToken"), (403, "InvalidAccessKeyId"), (403, "RequestTimeTooSkewed"), (503, "SlowDown")],
)
def test_f29_expired_or_changing_credentials_are_no_refusal(behind, tmp_path, status, code):
    for call in calls(behind(lambda *_: (status, code)), tmp_path / "file").values():
        with pytest.raises(Unavailable) as raised:
            call()
        assert not isinstance(raised.value, Refused)
        assert behind.heard[-1] is raised.value


def test_f34_a_storage_that_sends_a_byte_now_and_then_is_away(s3, bucket, aws, tmp_path, monkeypatch):
    """Each byte comes well before the client's time-out for a byte."""
    monkeypatch.setattr(s3_adapter, "READ_SECONDS", 0.3)
    with trickle() as port:
        client = aws_adapter.client("s3", region=aws.region, endpoint_url=f"http://127.0.0.1:{port}")
        slow = S3(client, bucket)
        with pytest.raises(Unavailable):
            slow.download("source.mp4", tmp_path / "source", if_match="x", check=never)
        with pytest.raises(Unavailable):
            slow.read("source.mp4")
        client.close()


def test_f27_a_dead_s3_is_unavailable(aws, tmp_path):
    client = aws_adapter.client("s3", region=aws.region, endpoint_url="http://127.0.0.1:1", connect_timeout_seconds=0.2)
    path = tmp_path / "segment.m4s"
    path.write_bytes(b"x")
    with pytest.raises(Unavailable) as raised:
        S3(client, "bucket").put_file("key", path, **TYPE)
    assert raised.value.dependency == "s3"


def test_f27_a_broken_download_is_taken_up_where_it_broke(s3, aws, bucket, tmp_path):
    data = os.urandom(3 * s3_adapter.MIB)
    s3.put_bytes("source.mp4", data, **TYPE)
    etag = s3.head("source.mp4").etag
    with breaking_proxy(aws.port, after_bytes=2 * s3_adapter.MIB, times=1) as (port, heard):
        client = aws_adapter.client("s3", region=aws.region, endpoint_url=f"http://127.0.0.1:{port}")
        S3(client, bucket).download("source.mp4", tmp_path / "source", if_match=etag, check=never)
        client.close()
    assert (tmp_path / "source").read_bytes() == data
    assert any(b"\r\nRange: bytes=" in request for request in heard)


def test_f27_a_download_that_gets_nowhere_gives_up(s3, aws, bucket, tmp_path):
    s3.put_bytes("source.mp4", os.urandom(3 * s3_adapter.MIB), **TYPE)
    etag = s3.head("source.mp4").etag
    with breaking_proxy(aws.port, after_bytes=0, times=1000) as (port, _):
        client = aws_adapter.client("s3", region=aws.region, endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(Unavailable):
            S3(client, bucket).download("source.mp4", tmp_path / "source", if_match=etag, check=never)
        client.close()


def test_sizes_lists_every_key_under_the_prefix(s3):
    for number in range(3):
        s3.put_bytes(f"media/{number}", b"x" * number, **TYPE)
    s3.put_bytes("other", b"x", **TYPE)
    assert s3.sizes("media/") == {"media/0": 0, "media/1": 1, "media/2": 2}
    assert s3.sizes("nothing/") == {}


def test_delete_takes_any_number_of_keys_and_missing_ones(s3, monkeypatch):
    monkeypatch.setattr(s3_adapter, "DELETE_KEYS", 2)
    keys = [f"k{number}" for number in range(5)]
    for key in keys[:4]:
        s3.put_bytes(key, b"x", **TYPE)
    s3.delete(keys)
    s3.delete([])
    assert s3.sizes("") == {}


def test_a_key_that_was_not_deleted_is_said(s3, client, monkeypatch):
    monkeypatch.setattr(client, "delete_objects", lambda **_: {"Errors": [{"Key": "k", "Message": "denied"}]})
    with pytest.raises(Unavailable, match="k: denied"):
        s3.delete(["k"])


def test_the_local_disk_is_not_s3s_fault(s3, tmp_path):
    s3.put_bytes("source.mp4", b"x", **TYPE)
    with pytest.raises(OSError, match="No such file"):
        s3.download("source.mp4", tmp_path / "missing" / "source", if_match="x", check=never)


@contextlib.contextmanager
def trickle():
    """A server that answers anything with a MiB to come, byte by byte; yields its port."""
    stop = threading.Event()

    class Drop(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(s3_adapter.MIB))
            self.end_headers()
            with contextlib.suppress(OSError):
                while not stop.wait(0.02):
                    self.wfile.write(b"x")

        def log_message(self, *_):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Drop) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            stop.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def breaking_proxy(upstream_port, *, after_bytes, times):
    """A TCP proxy that cuts the first `times` answers to GET after so many bytes of body; yields (port, requests)."""
    heard, left = [], [times]
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    stop = threading.Event()

    def answer(conversation):
        with conversation, socket.create_connection(("127.0.0.1", upstream_port)) as upstream:
            request = conversation.recv(65536)
            if not request:
                return
            heard.append(request)
            cut = request.startswith(b"GET") and left[0] > 0
            left[0] -= cut
            upstream.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            answer = b""
            while b"\r\n\r\n" not in answer and (data := upstream.recv(65536)):
                answer += data
            head, _, body = answer.partition(b"\r\n\r\n")
            conversation.sendall(head + b"\r\n\r\n")
            passed, body = 0, body or upstream.recv(65536)
            while body:
                conversation.sendall(body[: after_bytes - passed] if cut else body)
                passed += len(body)
                if cut and passed > after_bytes:
                    return
                body = upstream.recv(65536)

    def listen():
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                conversation, _ = listener.accept()
                with contextlib.suppress(OSError):
                    answer(conversation)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        stop.set()
        thread.join()
        listener.close()


def test_objects_are_as_old_as_the_storage_says(s3):
    s3.put_bytes("7/a", b"x" * 5, **TYPE)
    s3.put_bytes("70/b", b"x", **TYPE)
    assert s3.older_than("7/", -60) == {"7/a": 5}
    assert s3.older_than("7/", 60) == {}
