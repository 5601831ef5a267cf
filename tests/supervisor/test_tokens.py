from __future__ import annotations

import os
import subprocess
import sys
from uuid import UUID

import pytest
import structlog

from appliance.domain.events import Alive, ChunkClaiming, ChunkEnded, Claimed, Claiming, NotClaimed, Settled
from appliance.supervisor.tokens import TokenFiles, Tokens, after, running, start_time

A, B = UUID(int=1), UUID(int=2)


def tokens(videos: set[UUID] | None = None, chunks: set[UUID] | None = None) -> Tokens:
    return Tokens(0, 7, 99, frozenset(videos or ()), frozenset(chunks or ()))


@pytest.mark.parametrize(
    ("before", "event", "then"),
    [
        (tokens(), Claiming(A), tokens({A})),
        (tokens({A}), Claimed(A, 7, 3, 1, 0.0), tokens({A})),
        (tokens({A}), NotClaimed(A), tokens()),
        (tokens({A}), NotClaimed(B), tokens({A})),
        (tokens({A}), Settled(A, 7, "ok"), tokens()),
        (tokens({A}), ChunkClaiming(B), tokens({A}, {B})),
        (tokens({A}, {B}), ChunkEnded(B, "encoded"), tokens({A})),
        (tokens({A}, {B}), ChunkEnded(None, "resumed"), tokens({A}, {B})),
        (tokens({A}, {B}), Settled(A, 7, "lost"), tokens(chunks={B})),
        (tokens({A}), Alive(), tokens({A})),
    ],
)
def test_what_a_child_holds_after_each_event(before, event, then):
    assert after(before, event) == then


def test_files_outlive_their_writer_and_are_forgotten_one_by_one(tmp_path):
    files = TokenFiles(tmp_path / "new" / "directory")
    mine, other = tokens({A}, {B}), Tokens(1, 8, 100, frozenset({B}))
    files.keep(mine)
    files.keep(other)
    files.keep(mine)
    assert list(TokenFiles(tmp_path / "new" / "directory").left_over()) == [mine, other]
    files.forget(mine)
    files.forget(mine)
    assert list(files.left_over()) == [other]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"slot":0,"pid":1,"started":1,"videos":["x"],"chunks":[]}'])
def test_a_torn_file_is_said_and_removed(tmp_path, text):
    (tmp_path / "0-7-99.tokens").write_text(text)
    with structlog.testing.capture_logs() as logged:
        assert list(TokenFiles(tmp_path).left_over()) == []
    assert [line["event"] for line in logged] == ["TOKENS_UNREADABLE"]
    assert list(tmp_path.iterdir()) == []


def test_f19_a_process_is_its_pid_and_its_start_time():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    assert running(Tokens(0, child.pid, started))
    assert not running(Tokens(0, child.pid, started - 1))
    child.kill()
    # A zombie holds its pid and nothing else.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not running(Tokens(0, child.pid, started))
    child.communicate()
    assert start_time(child.pid) is None
