from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appliance.adapters.http import Http
from appliance.domain.errors import Unavailable
from appliance.domain.stored import Absent, Stored, TooMuch

MOST = 10_000
BODY = bytes(range(256)) * 8


class Site(BaseHTTPRequestHandler):
    """Answers by its path; /busy is busy twice."""

    busy = 0

    def do_GET(self) -> None:
        getattr(self, f"_{self.path.strip('/').split('?')[0].split('%')[0] or 'plain'}", self._gone)()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _plain(self) -> None:
        self._answer(200, BODY, Content_Type="video/mp4", Cache_Control="max-age=9")

    def _packed(self) -> None:
        self._answer(200, gzip.compress(BODY), Content_Encoding="gzip")

    def _torn(self) -> None:
        self._answer(200, gzip.compress(BODY)[:-20], Content_Encoding="gzip")

    def _bomb(self) -> None:
        self._answer(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")

    def _large(self) -> None:
        self._answer(200, bytes(MOST + 1))

    def _ranged(self) -> None:
        first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
        self._answer(206, BODY[first : last + 1])

    def _moved(self) -> None:
        self._answer(302, Location="/plain")

    def _astray(self) -> None:
        self._answer(302, Location="file:///etc/passwd")

    def _around(self) -> None:
        self._answer(302, Location=f"/around?{self.path.count('x')}" + "x" * (self.path.count("x") + 1))

    def _busy(self) -> None:
        Site.busy += 1
        self._answer(503 if Site.busy < 3 else 200, b"at last")

    def _short(self) -> None:
        self._answer(200, b"12", Content_Length="9")
        self.close_connection = True

    def _gone(self) -> None:
        self._answer(404)

    def log_message(self, *arguments: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def http() -> Http:
    return Http(timeout_seconds=10, deadline_seconds=60, most_bytes=MOST)


def test_an_object_comes_with_its_headers(http, site):
    assert http.read(f"{site}/plain?a=1") == Stored(BODY, "video/mp4", "max-age=9", "")


def test_what_comes_compressed_is_unpacked_and_said(http, site):
    found = http.read(f"{site}/packed")

    assert (found.data, found.content_encoding) == (BODY, "gzip")


@pytest.mark.parametrize("path", ["ranged", "plain"])
def test_a_range_is_asked_for_and_cut_out_where_the_server_sends_all(http, site, path):
    assert http.read(f"{site}/{path}", (7, 300)).data == BODY[300:307]


@pytest.mark.parametrize("path", ["ranged", "plain"])
def test_a_range_that_reaches_past_the_end_is_absent(http, site, path):
    with pytest.raises(Absent, match="ends before byte 2050"):
        http.read(f"{site}/{path}", (10, 2040))


def test_a_redirect_is_followed_and_said(http, site):
    assert http.read(f"{site}/moved").redirected
    assert not http.read(f"{site}/plain").redirected


@pytest.mark.parametrize("path", ["large", "bomb"])
def test_more_than_is_allowed_is_not_taken(http, site, path):
    with pytest.raises(TooMuch):
        http.read(f"{site}/{path}")


@pytest.mark.parametrize("path", ["gone", "torn", "a b/ü"])
def test_what_a_server_refuses_or_breaks_off_is_absent(http, site, path):
    with pytest.raises(Absent):
        http.read(f"{site}/{path}")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://[", "http://", "nonsense", "http://a:b/"]
)
def test_other_addresses_are_not_read(http, url):
    with pytest.raises((Absent, Unavailable)):
        http.read(url)


@pytest.mark.parametrize("path", ["astray", "around"])
def test_a_redirect_to_a_file_or_without_end_leads_nowhere(http, site, path):
    with pytest.raises((Absent, Unavailable)):
        http.read(f"{site}/{path}")


def test_a_server_that_is_busy_is_asked_again(http, site):
    Site.busy = 0
    assert http.read(f"{site}/busy").data == b"at last"


def test_a_body_that_breaks_off_every_time_is_an_outage(http, site):
    with pytest.raises(Unavailable):
        http.read(f"{site}/short")
