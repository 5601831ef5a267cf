from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from appliance.adapters import aws as factory
from appliance.adapters.ssm import Parameter

AGE_SECONDS = 600.0


class Elsewhen(BaseHTTPRequestHandler):
    """Systems Manager, with a note of ten minutes ago by a clock that is not ours."""

    off_seconds = 0.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        now = round(time.time() + self.off_seconds)
        note = {"Name": "/x", "Value": "fewer hosts would do", "LastModifiedDate": now - AGE_SECONDS}
        body = json.dumps({"Parameter": note}).encode()
        self.send_response_only(200)
        self.send_header("Date", self.date_time_string(now))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.mark.parametrize("off_seconds", [-3600.0, 0.0, 3600.0])
def test_f30_a_note_is_as_old_as_aws_says_whatever_this_hosts_clock_says(off_seconds: float) -> None:
    with HTTPServer(("127.0.0.1", 0), type("Off", (Elsewhen,), {"off_seconds": off_seconds})) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        client = factory.client("ssm", region="eu-west-1", endpoint_url=endpoint, tries=1)
        assert Parameter(client, "/x").age_seconds() == AGE_SECONDS
        server.shutdown()
