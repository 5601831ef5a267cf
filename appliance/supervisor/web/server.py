"""/metrics, /healthz and /readyz for everybody, the status page for loopback.

Bounded against slow and many clients (F50): a connection has a deadline as a whole and a bounded head; when there are
too many, the oldest makes way for the newest, which is a scrape rather than somebody who keeps us waiting.
"""

from __future__ import annotations

import errno
import io
import ipaddress
import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from importlib import resources
from typing import Any

import structlog

from appliance.supervisor.web.holder import holder

CONNECTIONS = 16
#: Threads, those included whose connection was just taken away. One beyond is closed unread, if none ends soon.
THREADS = 2 * CONNECTIONS
PLACE_SECONDS = 2.0
#: Request line and headers; browsers and Prometheus send less than 2 KiB.
HEAD_BYTES = 16 * 1024
#: For one connection from accept to close; a scrape takes some milliseconds.
DEADLINE_SECONDS = 10.0
#: Between two tries to bind a port that is taken.
BIND_AGAIN_SECONDS = 10.0
TEXT, JSON, HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"
#: The status page: what lies beside this file, by path. It talks to nobody else.
FILES = {
    "/": ("page.html", HTML),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
#: {media}: where posters and streams may come from, empty unless it is set.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
    "script-src 'self'; style-src 'self'; img-src 'self'{media}; media-src 'self'{media}; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str = TEXT
    policy: str = ""


@dataclass(frozen=True)
class Pages:
    """What is served, each asked at the moment of the request. `stuck`, `unready`: sentences, empty when well."""

    metrics: Callable[[], bytes]
    metrics_type: str
    stuck: Callable[[], str]
    unready: Callable[[], list[str]]
    status: Callable[[], object]
    #: `https://cdn.example`: the origin of what the page may show besides its own.
    media_origin: str = ""

    def answer(self, path: str, *, local: bool) -> Answer:
        """The answer to GET `path`; `local`: the client sits on this host."""
        match path.partition("?")[0]:
            case "/metrics":
                return Answer(200, self.metrics(), self.metrics_type)
            case "/healthz":
                stuck = self.stuck()
                return Answer(503 if stuck else 200, f"{stuck or 'ok'}\n".encode())
            case "/readyz":
                reasons = self.unready()
                return Answer(503 if reasons else 200, ("\n".join(reasons or ["ready"]) + "\n").encode())
            case "/status.json" | "/" | "/page.css" | "/page.js" | "/icon.svg" if not local:
                return Answer(403, b"The status page is served to this host only; for example through ssh -L.\n")
            case "/status.json":
                return Answer(200, json.dumps(self.status(), default=str).encode(), JSON)
            case found if found in FILES:
                name, content_type = FILES[found]
                policy = POLICY.format(media=f" {self.media_origin}" if self.media_origin else "")
                return Answer(200, resources.files(__package__).joinpath(name).read_bytes(), content_type, policy)
            case _:
                return Answer(404, b"Here are /metrics, /healthz, /readyz and, from this host, the status page /.\n")


class Web:
    """The thread that binds (again and again, while the port is taken) and serves."""

    def __init__(self, host: str, port: int, pages: Pages, notices: dict[str, str]) -> None:
        self._host, self._port, self._pages, self._notices = host, port, pages, notices
        self._log = structlog.get_logger()
        self._stop = threading.Event()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def port(self) -> int | None:
        """The bound port (a free one when 0 was asked for), None while it is taken."""
        return self._server.server_address[1] if self._server else None

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        if self._server:
            self._server.shutdown()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._server = self._bind()
            if self._server:
                with self._server:
                    self._server.serve_forever(poll_interval=0.2)
                return
            self._stop.wait(BIND_AGAIN_SECONDS)

    def _bind(self) -> _Server | None:
        try:
            server = _Server(self._host, self._port, self._pages)
        except OSError as error:
            self._say(error)
            return None
        self._notices.pop("web", None)
        self._log.info("WEB_READY", host=self._host, port=server.server_address[1])
        return server

    def _say(self, error: OSError) -> None:
        """Once per reason: it is tried again every few seconds."""
        problem = f"Port {self._port} on {self._host} cannot be bound: {error.strerror}."
        if error.errno == errno.EADDRINUSE:
            problem = f"Port {self._port} is taken by {holder(self._port)}."
        if self._notices.get("web") != problem:
            self._notices["web"] = problem
            hint = "Set web.port to a free port, for example 9101, and restart, or free this one. Encoding goes on."
            self._log.error("PORT_TAKEN", error=problem, hint=hint)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self._places = threading.BoundedSemaphore(THREADS)
        #: The oldest first; only the accepting thread adds to it.
        self._open: dict[int, socket.socket] = {}
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        while len(self._open) >= CONNECTIONS:
            oldest = self._open.pop(next(iter(self._open)), None)
            if oldest:
                _hang_up(oldest)
        if not self._places.acquire(timeout=PLACE_SECONDS):
            self.shutdown_request(request)
            return
        self._open[id(request)] = request
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        deadline = threading.Timer(DEADLINE_SECONDS, _hang_up, [request])
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._open.pop(id(request), None)
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not an error; a mistake of ours was answered with 500 and logged there."""


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed meanwhile


class _Head(io.BufferedIOBase):
    """What is read of a request: lines, up to HEAD_BYTES."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file, self.left = file, HEAD_BYTES

    def readline(self, size: int | None = -1) -> bytes:
        line = self._file.readline(self.left if size is None or size < 0 else min(size, self.left))
        self.left -= len(line)
        return line

    def close(self) -> None:
        self._file.close()


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0, one request a connection, of which only the head is read."""

    server: _Server
    timeout = DEADLINE_SECONDS
    server_version, sys_version = "video-appliance", ""

    def setup(self) -> None:
        super().setup()
        self.rfile = self._head = _Head(self.rfile)

    def parse_request(self) -> bool:
        understood = super().parse_request()
        if self._head.left <= 0:
            self.request_version = self.protocol_version  # a line that was cut looks like HTTP/0.9, which has no head
            self._send(Answer(431, b"The request's head is too large.\n"))
            return False
        if understood and self.command not in ("GET", "HEAD"):
            self._send(Answer(405, b"Only GET and HEAD.\n"))
            return False
        return understood

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer(), body=False)

    def _answer(self) -> Answer:
        try:
            return self.server.pages.answer(self.path, local=self._local())
        except Exception:  # noqa: BLE001 - a mistake of ours is the client's 500
            structlog.get_logger().exception("WEB_FAILED", path=self.path)
            return Answer(500, b"The answer could not be made; the log says why.\n")

    def _local(self) -> bool:
        """A client on this host that also calls us so: a page of another site must not read us through a browser whose
        name server says that it is us, and a proxy on this host speaks for somebody elsewhere.
        """
        client = ipaddress.ip_address(self.client_address[0].partition("%")[0])
        mapped = getattr(client, "ipv4_mapped", None) or client
        name = re.sub(r":[0-9]*$", "", self.headers.get("Host", ""))
        proxied = any(header in self.headers for header in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"))
        return mapped.is_loopback and not proxied and name in ("localhost", "127.0.0.1", "[::1]", "")

    def _send(self, answer: Answer, *, body: bool = True) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if answer.status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Referrer-Policy", "no-referrer")
        if answer.policy:
            self.send_header("Content-Security-Policy", answer.policy)
        self.end_headers()
        if body:
            self.wfile.write(answer.body)

    def log_message(self, *_args: object) -> None:
        """Scrapes are not news."""
