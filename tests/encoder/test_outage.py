from __future__ import annotations

from structlog.testing import capture_logs

from appliance.domain.errors import Unavailable
from appliance.encoder.outage import Outage

ERROR = Unavailable("sqs", "SQS did not answer.", hint="Check the network.")


def test_f10_an_outage_is_two_lines_and_waits_grow_up_to_the_longest():
    outage = Outage("sqs", longest_wait_seconds=10)
    with capture_logs() as lines:
        assert [outage.failed(ERROR) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
        outage.answered()
        outage.answered()
    assert [line["event"] for line in lines] == ["DEPENDENCY_DOWN", "DEPENDENCY_BACK"]
    assert lines[0]["hint"] == "Check the network."


def test_the_next_outage_begins_afresh():
    outage = Outage("sqs", longest_wait_seconds=0.5)
    assert [outage.failed(ERROR), outage.failed(ERROR)] == [0.5, 0.5]
    outage = Outage("sqs")
    outage.failed(ERROR)
    outage.failed(ERROR)
    outage.answered()
    assert outage.failed(ERROR) == 1.0
