from __future__ import annotations

import os
import signal

import pytest

from appliance.supervisor.reload import Answer
from tests.shell import appliance


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """What this process, in the supervisor's place, answers to SIGHUP. Older answers lie there already."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:{tmp_path / 'second'}")
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    answer = Answer(tmp_path)
    answer.give(["of an earlier reload"])
    given: list[dict] = []
    before = signal.signal(signal.SIGHUP, lambda *_: answer.give(**given.pop()))
    yield given
    signal.signal(signal.SIGHUP, before)


def test_a_reload_that_went_well_says_what_changes_when(answers):
    told = {"at_once": ["log.level"], "as_encoders_become_idle": [], "supervisor_needs_restart": []}
    answers += [{"problems": [], **told}] * 2
    assert appliance("reload", "--json").last == told
    ran = appliance("reload")
    assert (ran.status, ran.err) == (0, "")
    assert "at once: log.level" in ran.out
    assert "supervisor needs restart: nothing" in ran.out


def test_f40_a_reload_of_a_bad_file_fails_with_its_mistakes(answers):
    answers.append({"problems": ["line 3: pool.encoder: unknown setting; did you mean `encoders`?"]})
    ran = appliance("reload")
    assert ran.status == 78
    assert "did you mean `encoders`" in ran.err


def test_outside_of_the_unit_it_says_what_to_say_instead(monkeypatch):
    monkeypatch.delenv("MAINPID", raising=False)
    ran = appliance("reload")
    assert ran.status == 1
    assert "systemctl reload video-appliance" in ran.err
