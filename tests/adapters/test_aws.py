"""How clients are made: with the role of the instance, whose credentials change while we work."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import pytest

from appliance.adapters import aws
from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.s3 import S3
from appliance.adapters.sqs import Doorbell
from appliance.adapters.ssm import Parameter
from appliance.domain.errors import Unavailable

#: What EC2 gives the credentials of a role.
LIFETIME = timedelta(hours=6)


class Instance(BaseHTTPRequestHandler):
    """The metadata service of an EC2 instance (IMDSv2), and an S3 that notes whose signature it was shown."""

    def do_PUT(self) -> None:
        self._answer("session" if self.path == "/latest/api/token" else "")

    def do_GET(self) -> None:
        if not self.path.startswith("/latest/meta-data/"):
            self.server.shown.append(self.headers.get("Authorization", "").partition("/")[0].rpartition("=")[2])
            self._answer("object")
        elif self.path.endswith("/security-credentials/"):
            self._answer("role")
        else:
            self.server.asked += 1
            self._answer(json.dumps(self._credentials()))

    def _credentials(self) -> dict[str, str]:
        end = datetime.now(UTC) + LIFETIME
        keys = {"AccessKeyId": f"key-{self.server.asked}", "SecretAccessKey": "secret", "Token": "token"}
        return {"Code": "Success", "Type": "AWS-HMAC", "Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}", **keys}

    def _answer(self, text: str) -> None:
        self.send_response(200 if self.server.answers or "meta-data" not in self.path else 503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Instance)
    server.shown, server.asked, server.answers = [], 0, True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[ThreadingHTTPServer]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with serving() as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server


@pytest.fixture
def client(instance) -> Iterator[object]:
    endpoint = f"http://127.0.0.1:{instance.server_port}"
    client = aws.client("s3", region="ap-northeast-2", endpoint_url=endpoint)
    yield client
    client.close()


def much_later(client: object) -> None:
    """Twelve minutes before the credentials end, when botocore begins to look for the next ones (it insists from ten
    minutes on): on the only clock that it compares them with.
    """
    client._request_signer._credentials._time_fetcher = lambda: datetime.now(UTC) + LIFETIME - timedelta(minutes=12)


def test_f29_a_role_whose_credentials_rotate_in_mid_job_is_not_an_error(instance, client) -> None:
    s3 = S3(client, "bucket")
    assert s3.read("key").data == b"object"
    much_later(client)
    assert s3.read("key").data == b"object"
    assert instance.shown == ["key-1", "key-2"]


def test_f30_a_metadata_service_that_is_away_is_an_outage_that_ends_by_itself(instance, client) -> None:
    """botocore refuses to sign although the old key were good for ten minutes more; whoever asks, asks again."""
    s3 = S3(client, "bucket")
    assert s3.read("key").data == b"object"
    much_later(client)
    instance.answers = False
    with pytest.raises(Unavailable, match="credentials"):
        s3.read("key")
    instance.answers = True
    assert s3.read("key").data == b"object"
    assert instance.shown == ["key-1", "key-2"]


class _Nonsense(BaseHTTPRequestHandler):
    """A proxy on the way that answers with its own page."""

    def do_POST(self) -> None:
        self._page()

    def do_GET(self) -> None:
        self._page()

    def _page(self) -> None:
        page = b"<!doctype html><h1>502 Bad Gateway</h1>"
        self.send_response(502)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


def test_f30_a_page_of_a_proxy_is_no_answer_of_any_service():
    with HTTPServer(("127.0.0.1", 0), _Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"

        def made(service):
            return aws.client(service, region="eu-west-1", endpoint_url=endpoint, tries=1)

        asked = {
            "sqs": Doorbell(made("sqs"), f"{endpoint}/1/q").depth,
            "s3": lambda: S3(made("s3"), "bucket").sizes("x"),
            "cloudwatch": lambda: CloudWatch(made("cloudwatch"), "Test").put({"BacklogCount": 1}),
            "autoscaling": ScalingGroup(made("autoscaling"), "group").look,
            "ssm": Parameter(made("ssm"), "/x").age_seconds,
        }
        for dependency, ask in asked.items():
            with pytest.raises(Unavailable) as caught:
                ask()
            assert caught.value.dependency == dependency
        server.shutdown()
