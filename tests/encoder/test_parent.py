from __future__ import annotations

import multiprocessing
import os
import signal
import uuid
from multiprocessing.connection import Connection

import pytest

from appliance.domain.events import Alive, Booted, Claiming, Counted, Progress, Settled
from appliance.encoder import parent as parent_room
from appliance.encoder.parent import Parent
from tests.encoder.stage import alive, supervisor_of_one, until


@pytest.fixture(params=[True, False], ids=["socket", "pipe"])
def pipe(request):
    ours, theirs = multiprocessing.Pipe(duplex=request.param)
    reader, writer = (ours, theirs)
    yield reader, writer
    reader.close()
    writer.close()


def heard(reader: Connection) -> list:
    events = []
    while reader.poll():
        events.append(reader.recv())
    return events


def test_events_arrive_in_order(pipe):
    reader, writer = pipe
    parent = Parent(writer)
    token = uuid.uuid4()
    for event in (Booted(1), Claiming(token), Settled(token, 7, "ok", None, {"wall_seconds": 1.0})):
        parent.announce(event)
    assert heard(reader) == [Booted(1), Claiming(token), Settled(token, 7, "ok", None, {"wall_seconds": 1.0})]


def test_a_full_pipe_drops_and_counts_and_never_blocks(pipe, monkeypatch):
    monkeypatch.setattr(parent_room, "PATIENCE_SECONDS", 0.01)
    reader, writer = pipe
    parent = Parent(writer)
    sent = 0
    while not parent.dropped:
        parent.announce(Progress(7, 1.0, "encode"))
        sent += 1
        assert sent < 100_000
    parent.announce(Booted(1))
    dropped = parent.dropped
    assert dropped == 2
    assert len(heard(reader)) == sent - 1
    parent.announce(Booted(2))
    assert heard(reader) == [Booted(2), Counted("events_dropped", 2.0)]
    assert parent.dropped == 0


def test_signs_of_life_are_not_too_many_and_carry_what_was_seen(pipe, monkeypatch):
    reader, writer = pipe
    parent = Parent(writer)
    parent.saw("postgres", answers=True)
    parent.saw("sqs", answers=False)
    parent.alive()
    parent.alive()
    assert heard(reader) == [Alive({"postgres": True, "sqs": False})]
    monkeypatch.setattr(parent_room, "ALIVE_SECONDS", 0)
    parent.alive()
    assert len(heard(reader)) == 1


def test_a_closed_pipe_is_no_error(pipe):
    reader, writer = pipe
    reader.close()
    parent = Parent(writer)
    parent.announce(Booted(1))
    assert parent.dropped == 1


def test_f31_an_encoder_and_its_ffmpeg_end_with_a_killed_supervisor(tmp_path):
    with supervisor_of_one(tmp_path) as family:
        os.kill(family.supervisor, signal.SIGKILL)
        until(lambda: not alive(family.encoder), "the encoder's end")
        until(lambda: not alive(family.program), "the program's end")


def test_f31_an_encoder_and_its_ffmpeg_end_with_a_killed_fork_server(tmp_path):
    with supervisor_of_one(tmp_path) as family:
        os.kill(family.fork_server, signal.SIGKILL)
        until(lambda: not alive(family.encoder), "the encoder's end")
        until(lambda: not alive(family.program), "the program's end")
