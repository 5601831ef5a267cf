from __future__ import annotations

import threading

import pytest

from appliance.adapters.sqs import Received
from appliance.domain.errors import Unavailable
from appliance.domain.events import Counted
from appliance.encoder import visibility as visibility_room
from appliance.encoder.process import Encoder
from appliance.encoder.visibility import hidden
from tests.encoder.stage import encoder, until
from tests.encoder.works import linger, publish

MESSAGE = Received("{}", "handle", "request")


class Bell:
    """Notes each extension; the first ones fail when told so."""

    def __init__(self, failures=0):
        self.asked, self.failures = [], failures

    def visibility(self, received, seconds):
        self.asked.append((received, seconds))
        if len(self.asked) <= self.failures:
            raise Unavailable("sqs", "SQS did not answer.")


def extenders():
    return [thread for thread in threading.enumerate() if thread.name == "visibility"]


def test_the_first_extension_is_at_once_and_to_900_seconds():
    bell = Bell()
    with hidden(bell, MESSAGE):
        until(lambda: bell.asked, "an extension")
    assert bell.asked == [(MESSAGE, 900.0)]
    assert not extenders()


def test_it_goes_on_while_the_job_does(monkeypatch):
    monkeypatch.setattr(visibility_room, "EXTEND_SECONDS", 0.01)
    bell = Bell()
    with hidden(bell, MESSAGE):
        until(lambda: len(bell.asked) >= 3, "three extensions")


def test_f10_an_extension_that_failed_is_tried_again(monkeypatch):
    monkeypatch.setattr("appliance.encoder.outage.FIRST_WAIT_SECONDS", 0.01)
    bell = Bell(failures=1)
    with hidden(bell, MESSAGE):
        until(lambda: len(bell.asked) == 2, "a second try")


@pytest.mark.parametrize("fast_ack", [True, False], ids=["fast_ack", "late_ack"])
def test_it_runs_only_without_fast_ack(world, monkeypatch, fast_ack):
    monkeypatch.setattr(Encoder, "_claim_next", lambda _: None)
    world = world.with_queue(fast_ack=fast_ack)
    world.ring(world.video())
    with encoder(world, linger) as running:
        running.until_logged("JOB_WARNING")
        assert len(extenders()) == (0 if fast_ack else 1)
        assert world.depth() == ((0, 0) if fast_ack else (0, 1))
        running.drain.note()
        running.drain.note()
    assert not extenders()


def test_an_idle_claim_has_no_message_to_hide(world):
    seen = []

    def work(job):
        seen.extend(extenders())
        return publish(job)

    world = world.with_queue(fast_ack=False)
    with encoder(world, work) as running:
        running.until_status(world.video(), "READY")
    assert seen == []
    assert Counted("dependency_errors", labels=("sqs",)) not in running.listener.events
