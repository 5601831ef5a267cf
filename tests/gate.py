"""A gate before the AWS stand-in: whatever passes is asked about first, held back, or answered in its place."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from appliance.local.aws import Aws
from appliance.local.port import LOOPBACK

#: Not of the connection, but of what is sent on it (RFC 9110 §7.6.1).
HOP = ("connection", "transfer-encoding", "keep-alive", "expect")
REFUSAL = "<Error><Code>{code}</Code><Message>The gate is shut.</Message></Error>"
JSON_REFUSAL = '{{"__type": "{code}", "message": "The gate is shut."}}'

#: (method, path) → None: pass; else the status and the error code of the answer. May wait. What a header tells AWS
#: to do (SQS) is the path's end: `/AmazonSQS.SendMessage`.
Rule = Callable[[str, str], tuple[int, str] | None]


class Gate:
    """`with Gate(aws) as gate`: `gate.endpoint_url` is the way through; `gate.rule` may be changed at any time."""

    def __init__(self, aws: Aws, rule: Rule = lambda method, path: None) -> None:
        self.rule = rule
        gate = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                """One for each connection: simple, and enough."""
                self.raw_requestline = self.rfile.readline(1 << 16)
                if self.raw_requestline and self.parse_request():
                    self._pass()
                self.close_connection = True

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                target = self.headers.get("x-amz-target", "")
                refused = gate.rule(self.command, self.path + target)
                if refused:
                    words = JSON_REFUSAL if target else REFUSAL
                    self._answer(refused[0], {}, words.format(code=refused[1]).encode())
                    return
                onward = http.client.HTTPConnection(LOOPBACK, aws.port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                onward.request(self.command, self.path, body, headers)
                answer = onward.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
                onward.close()

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                length = headers.get("Content-Length") or headers.get("content-length") or str(len(body))
                for name, value in headers.items():
                    if name.lower() not in (*HOP, "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that was killed does not wait for its answer."""

        self._server = Server((LOOPBACK, 0), Door)
        self.endpoint_url = f"http://{LOOPBACK}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
