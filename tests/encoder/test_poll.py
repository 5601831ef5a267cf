"""A poll that hears signals; what hangs is played by a function that waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from appliance.domain.errors import Unavailable
from appliance.encoder.drain import Drain
from appliance.encoder.poll import Poll
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
    poll = Poll(lambda: "message")
    assert poll.answered(drain, listener.parent, leave=True)
    assert poll.take() == "message"

    def refuse() -> None:
        raise Unavailable("sqs", "SQS does not answer.")

    poll = Poll(refuse)
    assert poll.answered(drain, listener.parent, leave=True)
    with pytest.raises(Unavailable):
        poll.take()


def test_f37_a_sigterm_ends_the_wait_for_a_poll_that_hangs(drain, listener, never) -> None:
    def hang() -> None:
        drain.note()
        never.wait(60)

    assert not Poll(hang).answered(drain, listener.parent, leave=True)
    assert not never.is_set()


def test_f37_what_comes_in_with_the_signal_is_still_handed_on(drain, listener) -> None:
    def receive() -> str:
        drain.note()
        return "message"

    assert Poll(receive).answered(drain, listener.parent, leave=True)


def test_f37_without_fast_ack_the_end_of_the_poll_is_waited_for_until_the_second_signal(drain, listener, never) -> None:
    heard = threading.Event()

    def receive() -> str:
        drain.note()
        heard.wait(0.5)  # longer than the last moment that a message is given
        return "message"

    assert Poll(receive).answered(drain, listener.parent, leave=False)

    def hang() -> None:
        drain.note()
        never.wait(60)

    assert not Poll(hang).answered(drain, listener.parent, leave=False)


def test_a_poll_that_hangs_is_no_silence_for_the_supervisor(drain, listener, monkeypatch) -> None:
    """F10: an SQS that accepts and never answers must not look like an encoder that hangs."""
    monkeypatch.setattr("appliance.encoder.poll.LOOK_SECONDS", 0.01)
    seen, enough = [], threading.Event()
    monkeypatch.setattr(listener.parent, "alive", lambda: seen.append(1) or (len(seen) == 5 and enough.set()))
    assert Poll(lambda: enough.wait(30)).answered(drain, listener.parent, leave=True)


def test_a_chunk_that_wants_help_is_not_kept_waiting_and_the_poll_is_come_back_to(
    drain, listener, never, monkeypatch
) -> None:
    monkeypatch.setattr("appliance.encoder.poll.LOOK_SECONDS", 0.01)
    poll = Poll(lambda: never.wait(60) and "message")
    assert not poll.answered(drain, listener.parent, leave=True, distracted=lambda: True)
    assert not poll.answered(drain, listener.parent, leave=True, seconds=0.05)
    never.set()
    assert poll.answered(drain, listener.parent, leave=True)
    assert poll.take() == "message"
