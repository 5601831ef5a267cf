"""EC2 as an instance sees it: the metadata service with its real paths and tokens (IMDSv2), and the calls of Auto
Scaling that moto does not know, answered or refused as AWS does.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

INSTANCE_ID = "i-0123456789abcdef0"
TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
SPOT, REBALANCE = "spot/instance-action", "events/recommendations/rebalance"
STATE = "autoscaling/target-lifecycle-state"
SPOT_NOTICE = json.dumps({"action": "terminate", "time": "2026-11-25T10:02:00Z"})


class Instance(ThreadingHTTPServer):
    """`says`: path below /latest/meta-data/ → text, what is not there is a 404. `told`: what Auto Scaling heard."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.says = {"instance-id": INSTANCE_ID, STATE: "InService"}
        self.tokens: set[str] = set()
        self.tokens_made = 0
        self.asked: list[str] = []
        self.told: list[dict[str, str]] = []
        #: Action → (HTTP status, error code, words) instead of an answer.
        self.refuses: dict[str, tuple[int, str, str]] = {}

    def handle_error(self, *_: object) -> None:
        """A client that did not wait for its answer asks again."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def actions(self) -> list[str]:
        return [told["Action"] for told in self.told]


class _Answer(BaseHTTPRequestHandler):
    server: Instance

    def do_PUT(self) -> None:
        life = self.headers.get(TTL, "")
        if self.path != "/latest/api/token":
            self._answer(404)
        elif "X-Forwarded-For" in self.headers:
            self._answer(403)
        elif not (life.isdigit() and 1 <= int(life) <= 21600):
            self._answer(400)
        else:
            token = uuid.uuid4().hex
            self.server.tokens.add(token)
            self.server.tokens_made += 1
            self._answer(200, token)

    def do_GET(self) -> None:
        path = self.path.removeprefix("/latest/meta-data/")
        if self.headers.get(TOKEN) not in self.server.tokens:
            self._answer(401)
            return
        self.server.asked.append(path)
        self._answer(200 if path in self.server.says else 404, self.server.says.get(path, "Not Found"))

    def do_POST(self) -> None:
        """Auto Scaling's query protocol."""
        told = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.server.told.append(told)
        action, identity = told["Action"], f"<RequestId>{uuid.uuid4()}</RequestId>"
        if action in self.server.refuses:
            status, code, words = self.server.refuses[action]
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{words}</Message></Error>"
            self._answer(status, f"<ErrorResponse>{error}{identity}</ErrorResponse>")
        else:
            body = f"<{action}Result/><ResponseMetadata>{identity}</ResponseMetadata>"
            self._answer(200, f"<{action}Response>{body}</{action}Response>")

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def instance() -> Iterator[Instance]:
    server = Instance()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
