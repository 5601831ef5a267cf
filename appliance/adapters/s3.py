"""S3 as the place of all media: sources are read by ETag, every write carries a checksum."""

from __future__ import annotations

import gzip as gzip_format
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from appliance.domain.errors import Refused, SourceRejected, Transient, Unavailable
from appliance.domain.refusal import STRANGERS
from appliance.domain.stored import Absent, Stored

MIB = 1024 * 1024
#: Larger files go in parts, so that a reset connection costs one part.
MULTIPART_BYTES = 64 * MIB
PART_BYTES = 16 * MIB
#: Read at once from a download; `check` is asked after each.
READ_BYTES = MIB
#: Read slower than this a storage stands still: a byte now and then keeps every other time-out from ending (F34).
READ_SECONDS = 60.0
#: A download is taken up again where it broke off; this many times without a new byte it gives up.
DOWNLOAD_TRIES = 5
#: The most keys that one DeleteObjects takes.
DELETE_KEYS = 1000
#: The longest key, in UTF-8.
KEY_BYTES = 1024
#: Answers that say something about the object and nothing about S3: there is none, or not this one.
MISSING = (404, 412)
#: Cheap, and S3 refuses a body that does not match it.
CHECKSUM = "CRC32"
#: What a botocore call and the reading of its body raise; the latter's TLS errors are urllib3's own.
ERRORS = (BotoCoreError, ClientError, Boto3Error, ResponseParserError, HTTPError)
#: Of an object's KMS key: 400, and a no all the same.
LOCKED = {
    "KMS.DisabledException",
    "KMS.InvalidKeyUsageException",
    "KMS.KMSInvalidStateException",
    "KMS.NotFoundException",
}
#: For whoever may change policies; a missing file is refused like a forbidden one where they may not list.
CURE = (
    "Give the instance role what config/iam-policy.json lists, s3:ListBucket too (without it a missing file is refused "
    "like a forbidden one), and the use of the bucket's KMS key; then retry the video."
)

Check = Callable[[], None]
Ended = Callable[["S3", Unavailable | None], None]


@dataclass(frozen=True)
class Head:
    """`etag` without its quotes."""

    size_bytes: int
    etag: str


class S3:
    """One bucket. `client` is boto3's S3 client; it refreshes an instance role's credentials itself (F29).

    Raises SourceRejected `source_missing` where a source is read and is not there, Refused where a policy, a key or an
    archive keeps it from us, else Unavailable("s3", …).
    `ended` hears of each call, from the thread that made it: which bucket, and None when S3 answered. That an object is
    not there, or not for us, is an answer.
    """

    def __init__(self, client: Any, bucket: str, ended: Ended = lambda *_: None) -> None:
        self._client = client
        self._ended = ended
        self.bucket = bucket

    def ping(self) -> None:
        """Raises Unavailable where there is no such bucket, too."""
        with self._answering("a look at the bucket"):
            self._client.head_bucket(Bucket=self.bucket)

    def head(self, key: str) -> Head:
        with self._source(key):
            try:
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if _status(error) == 403:  # a HEAD's answer does not say why, a GET's does
                    self._client.get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")["Body"].close()
                raise
        return Head(int(answer["ContentLength"]), str(answer["ETag"]).strip('"'))

    def download(self, key: str, path: Path, *, if_match: str, check: Check) -> None:
        """Write the object with this ETag to `path`. `check` is called about every MiB and may raise.

        Raises Transient `source_changed` when the object is another one by now. Errors of the local disk pass through.
        """
        done, tries = 0, 0
        with path.open("wb") as file:
            while True:
                try:
                    self._copy_from(key, file, done, if_match, check)
                    return
                except Unavailable:
                    tries = 1 if file.tell() > done else tries + 1
                    done = file.tell()
                    if tries >= DOWNLOAD_TRIES:
                        raise
                check()

    def put_file(
        self, key: str, path: Path, *, content_type: str, cache_control: str, sent: Callable[[int], None] | None = None
    ) -> None:
        """Upload in one PUT, or in parts when large; a part of an upload is never an object.

        `sent` is told of bytes that went out, in parts only, from several threads.
        """
        metadata = {"ContentType": content_type, "CacheControl": cache_control, "ChecksumAlgorithm": CHECKSUM}
        with self._answering(f"the upload of {key}"):
            if path.stat().st_size < MULTIPART_BYTES:
                with path.open("rb") as body:
                    self._client.put_object(Bucket=self.bucket, Key=key, Body=body, **metadata)
            else:
                parts = TransferConfig(multipart_threshold=MULTIPART_BYTES, multipart_chunksize=PART_BYTES)
                self._client.upload_file(str(path), self.bucket, key, ExtraArgs=metadata, Config=parts, Callback=sent)

    def put_bytes(self, key: str, data: bytes, *, content_type: str, cache_control: str, gzip: bool = False) -> None:
        """Upload these bytes; with `gzip` they lie compressed and say so (players undo it on the way)."""
        metadata = {"ContentType": content_type, "CacheControl": cache_control, "ChecksumAlgorithm": CHECKSUM}
        if gzip:
            # mtime: the same text gives the same bytes.
            data, metadata = gzip_format.compress(data, mtime=0), {**metadata, "ContentEncoding": "gzip"}
        with self._answering(f"the upload of {key}"):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=data, **metadata)

    def read(self, key: str, span: tuple[int, int] | None = None) -> Stored:
        """The object uncompressed, or `span` (bytes, offset) of it, with its headers. For small things.

        Raises Absent where it is not there any more, though a list of the bucket had it.
        """
        part = {"Range": f"bytes={span[1]}-{span[1] + span[0] - 1}"} if span else {}
        try:
            with self._answering(f"the download of {key}", MISSING):
                answer = self._client.get_object(Bucket=self.bucket, Key=key, **part)
                with _deadline(answer["Body"]):
                    data: bytes = answer["Body"].read()
        except Unavailable as error:
            if _status(error.__cause__) == 404 and self._bucket_exists():
                raise Absent("it is not in the bucket") from error
            raise
        encoding = answer.get("ContentEncoding", "")
        return Stored(
            gzip_format.decompress(data) if encoding == "gzip" else data,
            answer.get("ContentType", ""),
            answer.get("CacheControl", ""),
            encoding,
        )

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every key that begins with `prefix`, and its size in bytes."""
        pages = self._pages(prefix)
        return {found["Key"]: int(found["Size"]) for page in pages for found in page.get("Contents", [])}

    def older_than(self, prefix: str, seconds: float) -> dict[str, int]:
        """Of `sizes` those last written longer ago than this, by the storage's own clock."""
        found: dict[str, int] = {}
        for page in self._pages(prefix):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            old = (item for item in page.get("Contents", []) if (now - item["LastModified"]).total_seconds() > seconds)
            found |= {item["Key"]: int(item["Size"]) for item in old}
        return found

    def delete(self, keys: list[str]) -> None:
        """Delete them all; keys that do not exist are no error."""
        for first in range(0, len(keys), DELETE_KEYS):
            objects = [{"Key": key} for key in keys[first : first + DELETE_KEYS]]
            with self._answering(f"the deletion of {len(objects)} objects"):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            if errors := answer.get("Errors"):
                raise Unavailable("s3", f"S3 did not delete {errors[0].get('Key')}: {errors[0].get('Message')}")

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        """What S3 lists of the keys that begin with `prefix`, answer by answer."""
        with self._answering(f"the list of {prefix}"):
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)

    def _copy_from(self, key: str, file: IO[bytes], start: int, if_match: str, check: Check) -> None:
        span = {"Range": f"bytes={start}-"} if start else {}
        with self._source(key):
            answer = self._client.get_object(Bucket=self.bucket, Key=key, IfMatch=f'"{if_match}"', **span)
            body = answer["Body"]
        try:
            while data := self._read(body, key):
                file.write(data)
                check()
        finally:
            body.close()

    def _read(self, body: Any, key: str) -> bytes:
        with self._answering(f"the download of {key}"), _deadline(body):
            data: bytes = body.read(READ_BYTES)
        return data

    @contextmanager
    def _source(self, key: str) -> Iterator[None]:
        """A source that is not there is the upload's fault, unless the whole bucket is not there."""
        if not 0 < len(key.encode()) <= KEY_BYTES:
            raise SourceRejected("The name of the uploaded file is empty or too long for S3.", code="source_missing")
        try:
            with self._answering(f"the download of {key}", MISSING):
                yield
        except Unavailable as error:
            status = _status(error.__cause__)
            if status == 412:
                raise Transient("The uploaded file was replaced while it was read.", code="source_changed") from error
            if status == 404 and self._bucket_exists():
                raise SourceRejected(f"There is no file {key} in storage.", code="source_missing") from error
            raise

    def _bucket_exists(self) -> bool:
        """Only asked after a 404, whose answer to a HEAD does not say what is missing."""
        try:
            self.ping()
        except Unavailable as error:
            return _status(error.__cause__) == 403
        return True

    @contextmanager
    def _answering(self, what: str, missing: tuple[int, ...] = ()) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:  # a deadline's
            self._ended(self, error)
            raise
        except ERRORS as error:
            unavailable = _translated(what, error)
            answered = _status(error) in missing or isinstance(unavailable, Refused)
            self._ended(self, None if answered else unavailable)
            raise unavailable from error
        self._ended(self, None)


@contextmanager
def _deadline(body: Any) -> Iterator[None]:
    """Ends the reading of this body after READ_SECONDS. Raises Unavailable then, whatever was read."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError, RuntimeError, ValueError):  # it has ended this moment
            body._raw_stream.shutdown()  # noqa: SLF001 - a StreamingBody lets its socket's time-out be set, no more

    timer = threading.Timer(READ_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            raise Unavailable("s3", f"S3 sent less than a piece in {READ_SECONDS:.0f} s.", hint="Check the network.")


def _translated(what: str, error: Exception) -> Unavailable:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    if code == "InvalidObjectState":
        return Refused("s3", f"S3 refuses {what}: it lies in an archive. Restore it, then retry the video.")
    if code in LOCKED or (_status(error) == 403 and code not in STRANGERS):  # those pass, or stop the host
        return Refused("s3", f"S3 refuses {what} ({code}). {CURE}")
    hint = "Check storage.bucket, the credentials, the region and the network."
    if isinstance(error, NoCredentialsError):
        hint = "Give this host an instance role (config/iam-policy.json), or this shell an account."
    return Unavailable("s3", f"S3 refused or did not answer {what}: {error}", hint=hint)


def _status(error: BaseException | None) -> int:
    """The HTTP status of S3's answer; 0 when there was none."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
