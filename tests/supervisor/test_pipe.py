from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import pytest

from appliance.domain.events import Alive, Booted, Claiming, Counted
from appliance.supervisor.pipe import MAX_FRAME_BYTES, Pipe


@pytest.fixture
def ends() -> Iterator[tuple[Pipe, Connection]]:
    reading, writing = multiprocessing.Pipe(duplex=False)
    pipe = Pipe(reading)
    yield pipe, writing
    pipe.close()
    writing.close()


def test_events_arrive_in_order(ends):
    pipe, child = ends
    events = [Booted(7), Claiming(uuid4()), Alive({"s3": False})]
    for event in events:
        child.send(event)
    assert pipe.read() == events
    assert pipe.read() == []


def test_an_event_that_arrives_in_pieces_is_read_once_it_is_whole(ends):
    pipe, child = ends
    body = pickle.dumps(Counted("rings", 2.0, ("release",)))
    frame = struct.pack("!i", len(body)) + body
    for place in range(len(frame) - 1):
        os.write(child.fileno(), frame[place : place + 1])
        assert pipe.read() == []
    os.write(child.fileno(), frame[-1:])
    assert pipe.read() == [Counted("rings", 2.0, ("release",))]


def test_what_was_said_before_the_end_is_still_read(ends):
    pipe, child = ends
    child.send(Booted(7))
    child.close()
    assert pipe.read() == [Booted(7)]
    assert not pipe.open


@pytest.mark.parametrize("body", [b"no pickle", pickle.dumps("no event"), pickle.dumps(Path("/"))])
def test_what_is_no_event_is_counted_and_passed_over(ends, body):
    pipe, child = ends
    child.send_bytes(body)
    child.send(Booted(7))
    assert pipe.read() == [Booted(7)]
    assert pipe.unreadable == 1


@pytest.mark.parametrize("length", [-1, MAX_FRAME_BYTES + 1])
def test_a_stream_without_frames_is_given_up(ends, length):
    pipe, child = ends
    os.write(child.fileno(), struct.pack("!i", length) + b"rest")
    assert pipe.read() == []
    assert (pipe.open, pipe.unreadable) == (False, 1)
