from __future__ import annotations

import threading

import pytest

from appliance.adapters.sqs import Received
from appliance.config import Queue
from appliance.encoder.drain import Drain
from appliance.encoder.messages import SLICE_SECONDS, Messages
from tests.encoder.stage import Listener, until

MESSAGE = Received("{}", "handle", "request")


class Played:
    """A queue that answers when it is told to."""

    def __init__(self) -> None:
        self.rings = threading.Event()
        self.polls: list[float] = []

    def receive(self, seconds: float) -> Received:
        self.polls.append(seconds)
        assert self.rings.wait(30)
        return MESSAGE


@pytest.fixture
def messages(monkeypatch):
    monkeypatch.setattr("appliance.encoder.poll.LOOK_SECONDS", 0.01)
    drain, listener, doorbell = Drain(600.0), Listener(), Played()
    yield lambda fast_ack: (Messages(doorbell, Queue(fast_ack=fast_ack), listener.parent, drain), doorbell)
    doorbell.rings.set()
    drain.close()
    listener.close()


def test_what_comes_in_while_a_chunk_is_helped_with_is_received_next_from_the_same_poll(messages) -> None:
    received, doorbell = messages(True)
    assert received.receive(20.0, lambda: True) is None  # away to help
    assert received.receive(0.0, lambda: True) is None  # back, and nothing yet
    doorbell.rings.set()
    assert until(lambda: received.receive(0.0, lambda: False), "the message") is MESSAGE
    assert doorbell.polls == [20.0]


def test_without_fast_ack_no_poll_is_left_alone_and_none_is_long(messages) -> None:
    received, doorbell = messages(False)
    threading.Timer(0.1, doorbell.rings.set).start()
    assert received.receive(20.0, lambda: True) is MESSAGE  # however much help is wanted
    assert doorbell.polls == [SLICE_SECONDS]
