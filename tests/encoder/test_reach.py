from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from appliance.adapters import aws as aws_adapter
from appliance.adapters.s3 import S3
from appliance.domain.errors import SourceRejected, Unavailable
from appliance.domain.events import Alive, Counted
from appliance.encoder.reach import Reach
from tests.encoder.stage import Listener, until
from tests.gate import Gate


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


def seen(listener) -> bool:
    """What the next sign of life says."""
    listener.parent._alive_at = float("-inf")
    listener.parent.alive()
    return listener.of(Alive)[-1].dependencies["s3"]


def test_f27_an_encoder_without_work_learns_that_s3_is_back(aws, bucket, listener):
    """One thread asks, however many calls were not answered, and ends with the outage."""
    paused, go = threading.Semaphore(0), threading.Event()
    others = set(threading.enumerate())  # an earlier test may have left one that asks for ever

    def wait(_seconds: float) -> None:
        paused.release()
        go.wait()

    with Gate(aws, lambda *_: (503, "SlowDown")) as gate:
        client = aws_adapter.client("s3", region=aws.region, endpoint_url=gate.endpoint_url)
        s3 = S3(client, bucket, Reach(listener.parent, wait).ended)
        with capture_logs() as lines:
            for _ in range(2):
                with pytest.raises(Unavailable):
                    s3.head("a.mp4")
            assert paused.acquire(timeout=10)
            assert not seen(listener)
            gate.rule = lambda *_: None
            go.set()
            until(lambda: seen(listener))
        assert [line["event"] for line in lines] == ["DEPENDENCY_DOWN", "DEPENDENCY_BACK"]
        until(
            lambda: not [thread for thread in threading.enumerate() if thread.name == "reach" and thread not in others]
        )
        assert not paused.acquire(blocking=False)
    assert listener.of(Counted) == [Counted("dependency_errors", labels=("s3",))] * 2
    client.close()


def test_a_file_that_is_not_there_is_an_answer_and_a_bucket_that_is_not_is_none(aws, bucket, listener):
    client = aws_adapter.client("s3", region=aws.region, endpoint_url=aws.endpoint_url)
    forever = threading.Event()
    reach = Reach(listener.parent, lambda _: forever.wait())
    with pytest.raises(SourceRejected):
        S3(client, bucket, reach.ended).head("nobody-made-it")
    assert seen(listener)
    with pytest.raises(Unavailable):
        S3(client, "no-such-bucket", reach.ended).head("a.mp4")
    assert not seen(listener)
    reach.ended(S3(client, bucket), None)
    forever.set()
    client.close()
