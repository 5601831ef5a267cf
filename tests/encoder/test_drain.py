from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from appliance.encoder.drain import Drain


@pytest.fixture
def drain():
    drain = Drain(90.0)
    yield drain
    drain.close()


def test_nothing_is_asked_at_first(drain):
    assert (drain.asked, drain.over, drain.left_seconds) == (False, False, float("inf"))


def test_the_first_note_starts_the_budget(drain):
    drain.note()
    assert drain.asked
    assert not drain.over
    assert 80 < drain.left_seconds <= 90


def test_f38_the_second_note_ends_it(drain):
    drain.note()
    drain.note()
    assert drain.over
    assert drain.left_seconds == 0


def test_a_budget_that_has_passed_is_over():
    drain = Drain(0.0)
    drain.note()
    assert drain.over
    drain.close()


def test_a_note_before_the_wait_is_not_missed(drain):
    drain.note()
    began = time.monotonic()
    drain.wait(60)
    assert time.monotonic() - began < 30


def test_after_the_first_note_a_wait_ends_with_the_second(drain):
    drain.note()
    drain.wait(60)
    second = threading.Timer(0.05, drain.note)
    second.start()
    drain.wait(60)
    assert drain.over
    second.join()


def test_a_wait_is_no_longer_than_the_budget():
    drain = Drain(0.05)
    drain.note()
    drain.wait(0)
    drain.wait(60)
    assert drain.over
    drain.close()


def test_sigterm_leaves_a_note_and_ctrl_c_is_the_supervisors(drain):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        drain.listen()
        os.kill(os.getpid(), signal.SIGINT)
        assert not drain.asked
        os.kill(os.getpid(), signal.SIGTERM)
        drain.wait(60)
        assert drain.asked
        assert not drain.over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_many_notes_do_not_fill_the_pipe(drain):
    for _ in range(100_000):
        drain.note()
    assert drain.over
