"""A poll that hears signals; what hangs is played by a function that waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from appliance.domain.errors import Unavailable
from appliance.encoder.drain import Drain
from appliance.encoder.poll import interruptible
from tests.encoder.stage import Listener


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def drain() -> Iterator[Drain]:
    drain = Drain(600.0)
    yield drain
    drain.close()


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Released at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


def test_it_returns_what_was_received_and_raises_what_went_wrong(drain, listener) -> None:
    assert interruptible(lambda: "message", drain, listener.parent, leave=True) == "message"

    def refuse() -> None:
        raise Unavailable("sqs", "SQS does not answer.")

    with pytest.raises(Unavailable):
        interruptible(refuse, drain, listener.parent, leave=True)


def test_f37_a_sigterm_ends_a_poll_that_hangs(drain, listener, never) -> None:
    def hang() -> None:
        drain.note()
        never.wait(60)

    assert interruptible(hang, drain, listener.parent, leave=True) is None
    assert not never.is_set()


def test_f37_what_comes_in_with_the_signal_is_still_handed_on(drain, listener) -> None:
    def receive() -> str:
        drain.note()
        return "message"

    assert interruptible(receive, drain, listener.parent, leave=True) == "message"


def test_f37_without_fast_ack_the_end_of_the_poll_is_waited_for_until_the_second_signal(drain, listener, never) -> None:
    heard = threading.Event()

    def receive() -> str:
        drain.note()
        heard.wait(0.5)  # longer than the last moment that a message is given
        return "message"

    assert interruptible(receive, drain, listener.parent, leave=False) == "message"

    def hang() -> None:
        drain.note()
        never.wait(60)

    assert interruptible(hang, drain, listener.parent, leave=False) is None


def test_a_poll_that_hangs_is_no_silence_for_the_supervisor(drain, listener, monkeypatch) -> None:
    """F10: an SQS that accepts and never answers must not look like an encoder that hangs."""
    monkeypatch.setattr("appliance.encoder.poll.ALIVE_SECONDS", 0.01)
    seen, enough = [], threading.Event()
    monkeypatch.setattr(listener.parent, "alive", lambda: seen.append(1) or (len(seen) == 5 and enough.set()))
    assert interruptible(lambda: enough.wait(30), drain, listener.parent, leave=True) is True
