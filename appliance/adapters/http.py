"""Anybody's web server, read for `verify`: http and https alone, bounded in bytes, time and redirects."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
import zlib
from typing import Any
from urllib.parse import quote

from appliance import __version__
from appliance.domain.errors import Unavailable
from appliance.domain.stored import Absent, Stored, TooMuch

READ_BYTES = 1 << 20
#: A request that got no answer is made this often.
TRIES = 3
#: What a server says to mean "not now".
BUSY = {408, 425, 429, *range(500, 600)}
#: zlib: a gzip header is expected.
GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Http:
    """Reads URLs. Raises Absent for what a server refuses, TooMuch over `most_bytes`, Unavailable("http") else."""

    def __init__(self, *, timeout_seconds: float, deadline_seconds: float, most_bytes: int) -> None:
        self._timeout = timeout_seconds
        self._deadline = deadline_seconds
        self._most = most_bytes
        # Without the handlers of file:, ftp: and data:, which a redirect could name. Ten redirects are its limit.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def read(self, url: str, span: tuple[int, int] | None = None) -> Stored:
        """The object, uncompressed, or `span` (bytes, offset) of it."""
        if not url.startswith(("http://", "https://")):
            raise Absent("only http and https addresses are read")
        headers = {"Accept-Encoding": "gzip", "User-Agent": f"video-appliance/{__version__}"}
        if span:
            # Ranges of compressed bytes would be other ranges.
            headers |= {"Accept-Encoding": "identity", "Range": f"bytes={span[1]}-{span[1] + span[0] - 1}"}
        try:
            request = urllib.request.Request(quote(url, safe=":/?#[]@!$&'()*+,;=%-._~"), headers=headers)
        except ValueError as error:
            raise Absent(f"it is no address: {error}") from error
        for tried in range(1, TRIES + 1):
            try:
                return self._answer(request, span)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in BUSY:
                    raise Absent(f"the server answers {error.code} {error.reason}") from error
                problem: Exception = error
            except (OSError, http.client.HTTPException, zlib.error) as error:
                problem = error
            except ValueError as error:
                raise Absent(f"it is no address: {error}") from error
            if tried == TRIES:
                raise Unavailable("http", f"{url} cannot be reached: {problem}", hint="Check the address.") from problem
        raise AssertionError("the last try returns or raises")

    def _answer(self, request: urllib.request.Request, span: tuple[int, int] | None) -> Stored:
        with self._opener.open(request, timeout=self._timeout) as answer:
            encoding = (answer.headers.get("Content-Encoding") or "").strip().lower()
            whole = answer.status == 200
            size, offset = span or (self._most, 0)
            data = self._body(answer, size + (offset if whole else 0), encoding, cut=span is not None)
            if span:
                data = data[offset : offset + size] if whole else data
                if len(data) < size:
                    raise Absent(f"it ends before byte {offset + size}")
            return Stored(
                data,
                answer.headers.get("Content-Type", ""),
                answer.headers.get("Cache-Control", ""),
                encoding,
                redirected=answer.geturl() != request.full_url,
            )

    def _body(self, answer: Any, most: int, encoding: str, *, cut: bool) -> bytes:
        """What comes, unpacked as far as `most` bytes; `cut` there instead of refused."""
        unpack = zlib.decompressobj(GZIP_WINDOW) if encoding == "gzip" else None
        data, end = bytearray(), time.monotonic() + self._deadline
        most = min(most, self._most)
        while came := answer.read(READ_BYTES):
            data += unpack.decompress(came, most + 1 - len(data)) if unpack else came
            if time.monotonic() > end:
                raise TimeoutError(f"it takes more than {self._deadline:.0f} s")
            if len(data) > most or (cut and len(data) == most):
                if cut:
                    return bytes(data[:most])
                raise TooMuch(f"it has more than {most} bytes")
        if answer.length:
            raise http.client.IncompleteRead(bytes(data), answer.length)
        if unpack and not unpack.eof:
            raise Absent("it ends within its gzip encoding")
        return bytes(data)
