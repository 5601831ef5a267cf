"""The AWS endpoint of a chaos run: S3 in memory, SQS behind it in moto, and faults before both, drawn from the seed.

moto's S3 takes 5 ms of a core for each request and walks all keys for each list: with ten requests a video it would be
the run's bottleneck from the first thousand videos on. This one knows what the appliance asks of S3 and no more; what
it does not know it refuses and counts, so that it is noticed. A process of its own:

    python -m tests.chaos.storage PORT MOTO_PORT SEED

`POST /_chaos` with JSON `{kind: probability}` sets the odds, `GET /_chaos` returns how often each kind struck.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import ctypes
import hashlib
import json
import random
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LARGEST_HEAD_BYTES = 1 << 16
SLOW_SECONDS = (0.5, 2.5)
#: The longest that SQS holds back a message which the run delays, in seconds.
DELAY_SECONDS = 6
KEPT_HEADERS = ("content-type", "cache-control", "content-encoding")
PAGE = 1000
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.target).query, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: The body of an answer to HEAD is not sent, but counted.
    length: int | None = None

    def wire(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {'OK' if self.status < 400 else 'No'}", f"Date: {formatdate(usegmt=True)}"]
        length = len(self.body) if self.length is None else self.length
        given = {"x-amz-request-id": "chaos", "Content-Length": str(length), **self.headers}
        lines += [f"{name}: {value}" for name, value in given.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Stored:
    data: bytes
    headers: dict[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class Objects:
    """One bucket's worth of S3, whatever the bucket is called: `bucket/key` → object."""

    def __init__(self) -> None:
        self._objects: dict[str, Stored] = {}
        self._names: list[str] = []

    def answer(self, request: Request) -> Answer:
        name = request.path.lstrip("/")
        bucket, _, key = name.partition("/")
        if not key:
            return self._of_bucket(request, bucket)
        if request.method == "PUT":
            return self._put(request, name)
        if request.method in ("GET", "HEAD"):
            return self._get(request, name)
        if request.method == "DELETE":
            self._remove(name)
            return Answer(204)
        return _error(501, "NotImplemented")

    def _of_bucket(self, request: Request, bucket: str) -> Answer:
        query = request.query
        if request.method == "GET" and query.get("list-type") == "2":
            return self._list(bucket, query)
        if request.method == "POST" and "delete" in query:
            for key in request.body.decode().split("<Key>")[1:]:
                self._remove(f"{bucket}/{key.split('</Key>')[0]}")
            return _xml("<DeleteResult></DeleteResult>")
        return Answer(200) if request.method in ("HEAD", "PUT") else _error(501, "NotImplemented")

    def _put(self, request: Request, name: str) -> Answer:
        if source := request.headers.get("x-amz-copy-source"):
            stored = self._objects.get(unquote(source).lstrip("/"))
            if stored is None:
                return _error(404, "NoSuchKey")
            kept = stored.headers if request.headers.get("x-amz-metadata-directive") != "REPLACE" else _kept(request)
            self._store(name, Stored(stored.data, kept))
            return _xml(f"<CopyObjectResult><ETag>{escape(stored.etag)}</ETag></CopyObjectResult>")
        data = _unchunked(request)
        given = request.headers.get("x-amz-checksum-crc32")
        if given and given != base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode():
            return _error(400, "BadDigest")
        stored = Stored(data, _kept(request))
        self._store(name, stored)
        return Answer(200, headers={"ETag": stored.etag})

    def _store(self, name: str, stored: Stored) -> None:
        if name not in self._objects:
            bisect.insort(self._names, name)
        self._objects[name] = stored

    def _remove(self, name: str) -> None:
        if self._objects.pop(name, None) is not None:
            del self._names[bisect.bisect_left(self._names, name)]

    def _get(self, request: Request, name: str) -> Answer:
        stored = self._objects.get(name)
        if stored is None:
            return _error(404, "NoSuchKey")
        if request.headers.get("if-match", stored.etag) != stored.etag:
            return _error(412, "PreconditionFailed")
        headers = {**stored.headers, "ETag": stored.etag, "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return Answer(200, headers=headers, length=len(stored.data))
        first, dash, last = request.headers.get("range", "").removeprefix("bytes=").partition("-")
        if not dash:
            return Answer(200, stored.data, headers)
        end = min(int(last or len(stored.data) - 1), len(stored.data) - 1)
        if int(first) > end:
            return _error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {first}-{end}/{len(stored.data)}"
        return Answer(206, stored.data[int(first) : end + 1], headers)

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        prefix = f"{bucket}/{query.get('prefix', '')}"
        first = query.get("continuation-token") or prefix
        found = list(self._from(first, prefix))
        more = f"<NextContinuationToken>{escape(found[PAGE])}</NextContinuationToken>" if len(found) > PAGE else ""
        contents = "".join(
            f"<Contents><Key>{escape(name.partition('/')[2])}</Key><Size>{len(self._objects[name].data)}</Size>"
            f"<ETag>{escape(self._objects[name].etag)}</ETag></Contents>"
            for name in found[:PAGE]
        )
        truncated = str(bool(more)).lower()
        return _xml(f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{contents}</ListBucketResult>")

    def _from(self, first: str, prefix: str) -> Iterator[str]:
        """At most one more than a page."""
        for index in range(bisect.bisect_left(self._names, first), len(self._names)):
            if not self._names[index].startswith(prefix) or index - bisect.bisect_left(self._names, first) > PAGE:
                return
            yield self._names[index]


def _kept(request: Request) -> dict[str, str]:
    headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    encodings = [part.strip() for part in headers.pop("content-encoding", "").split(",")]
    if kept := [part for part in encodings if part not in ("", "aws-chunked")]:
        headers["content-encoding"] = ",".join(kept)
    return headers


def _unchunked(request: Request) -> bytes:
    if "aws-chunked" not in request.headers.get("content-encoding", ""):
        return request.body
    data, rest = b"", request.body
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            break
        data, rest = data + rest[:size], rest[size + 2 :]
    return data


def _xml(text: str, status: int = 200) -> Answer:
    return Answer(status, f'<?xml version="1.0"?>{text}'.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str) -> Answer:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


class Broken(Exception):
    """The connection ends here, whoever waits for an answer."""


class Endpoint:
    """Reads requests, decides each one's fate, answers."""

    def __init__(self, moto_port: int, seed: int) -> None:
        self._objects = Objects()
        self._moto_port = moto_port
        self._draw = random.Random(seed)
        self._odds: dict[str, float] = {}
        self._struck: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader, writer):
                writer.write(await self._answer(request, writer))
                await writer.drain()
        except (Broken, OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            if writer.transport is not None:
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(headers.get("content-length", 0))
        if method == "PUT" and "/_chaos" not in target and self._strikes("s3 upload cut"):
            await reader.readexactly(min(length, self._draw.randrange(length + 1)))
            raise Broken
        body = await reader.readexactly(length) if length else b""
        if headers.get("transfer-encoding") == "chunked":
            body = await _chunked(reader)
        return Request(method, target, headers, body)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bytes:
        if request.path == "/_chaos":
            return self._control(request).wire()
        if "x-amz-target" in request.headers or "x-amz-json" in request.headers.get("content-type", ""):
            return await self._sqs(request)
        return await self._s3(request, writer)

    def _control(self, request: Request) -> Answer:
        if request.method == "POST":
            self._odds = json.loads(request.body)
        return Answer(200, json.dumps(self._struck).encode())

    def _strikes(self, kind: str) -> bool:
        # drawn also when the odds are nil: the sequence is the seed's alone
        struck = self._draw.random() < self._odds.get(kind, 0.0)
        self._struck[kind] += struck
        return struck

    async def _s3(self, request: Request, writer: asyncio.StreamWriter) -> bytes:
        if self._strikes("s3 slow"):
            await asyncio.sleep(self._draw.uniform(*SLOW_SECONDS))
        if self._strikes("s3 5xx"):
            return _error(self._draw.choice((500, 503)), "SlowDown").wire()
        if self._strikes("s3 reset before"):
            raise Broken
        answer = self._objects.answer(request)
        if answer.status == 501:
            self._struck[f"REFUSED {request.method} {request.target.partition('?')[2]}"] += 1
        if self._strikes("s3 reset after"):
            raise Broken
        wire = answer.wire()
        if request.method == "GET" and answer.status < 300 and self._strikes("s3 download cut"):
            writer.write(wire[: -self._draw.randrange(1, len(answer.body) + 2)])
            await writer.drain()
            raise Broken
        return wire

    async def _sqs(self, request: Request) -> bytes:
        action = request.headers.get("x-amz-target", "").partition(".")[2]
        if self._strikes("sqs 5xx"):
            return Answer(
                503, b'{"__type":"ServiceUnavailable"}', {"Content-Type": "application/x-amz-json-1.0"}
            ).wire()
        if action == "SendMessage":
            return await self._send(request)
        if action == "DeleteMessage" and self._strikes("sqs delete lost"):
            return Answer(200, b"{}", {"Content-Type": "application/x-amz-json-1.0"}).wire()
        wire = await self._forward(request)
        if action == "ReceiveMessage" and b'"Messages"' in wire and self._strikes("sqs delivery dropped"):
            raise Broken
        return wire

    async def _send(self, request: Request) -> bytes:
        if self._strikes("sqs message delayed"):
            fields = {**json.loads(request.body), "DelaySeconds": self._draw.randint(1, DELAY_SECONDS)}
            request = Request(request.method, request.target, request.headers, json.dumps(fields).encode())
        wire = await self._forward(request)
        if self._strikes("sqs message doubled"):
            await self._forward(request)
        return wire

    async def _forward(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._moto_port)
        try:
            kept = {**request.headers, "content-length": str(len(request.body)), "connection": "close"}
            lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {kept[name]}" for name in kept)]
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + request.body)
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if not head:
            raise Broken
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        for name in ("Connection", "connection", "Content-Length", "Date", "Server"):
            headers.pop(name, None)
        return Answer(int(status.split(" ")[1]), body, headers).wire()


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        data += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return data


async def main(port: int, moto_port: int, seed: int) -> None:
    endpoint = Endpoint(moto_port, seed)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", port, limit=LARGEST_HEAD_BYTES, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    # It ends with the run that started it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    asyncio.run(main(*map(int, sys.argv[1:4])))
