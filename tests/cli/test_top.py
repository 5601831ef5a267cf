from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.cli import top
from appliance.supervisor.web.shape import page
from tests.browser.scenes import HERE, SCENES
from tests.shell import appliance, command, environment


def told(name: str) -> dict[str, Any]:
    """status.json of one of the page's scenes."""
    scene = SCENES[name]()
    return dict(page(scene.board, scene.dependencies, scene.now, host=HERE, media_base_url=""))


def port(settings: Path) -> int:
    return int(yaml.safe_load(settings.read_text())["web"]["port"])


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch):
    """Make the supervisor of this host say what one of the page's does."""
    return lambda name: monkeypatch.setattr(top.supervisor, "look", lambda _: told(name) if name else None)


def test_it_shows_backlog_and_encoders_and_all_is_well(says) -> None:
    says("busy")
    ran = appliance("top", "--once")
    service = told("busy")
    assert ran.status == 0
    assert f"waiting {service['backlog']['UPLOADED']}, encoding {service['backlog']['PROCESSING']}" in ran.out
    busy = [slot for slot in service["slots"] if slot["state"] == "busy"]
    assert busy
    for slot in busy:
        assert re.search(rf"{slot['slot']} +busy +.*{slot['video_id']}", ran.out)


def test_what_does_not_answer_is_said_with_a_cure_and_status_69(says) -> None:
    says("broken")
    ran = appliance("top", "--once")
    down = {name: seen for name, seen in told("broken")["dependencies"].items() if seen["up"] is False}
    assert ran.status == 69
    assert down
    for name, seen in down.items():
        assert f"! {name} has been down for" in ran.out
        assert seen["hint"] in ran.out


def test_a_draining_host_says_so(says) -> None:
    says("draining")
    assert "· draining" in appliance("top", "--once").out


def test_without_a_supervisor_it_says_where_it_looked_and_what_else_to_ask(settings: Path) -> None:
    ran = appliance("top", "--once", "--config", settings)
    assert ran.status == 69
    assert f"127.0.0.1:{port(settings)}" in ran.out
    assert "video-appliance status" in ran.out
    alone = appliance("top", "--json", "--config", settings)
    assert (alone.status, alone.last) == (69, {"service": None})


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_on_a_terminal_it_draws_until_a_key_and_leaves_the_terminal_as_it_was(settings: Path, key: bytes) -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    with subprocess.Popen(
        command("top", "--config", settings),
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment({"TERM": "xterm"}),
        # Ctrl-C is a signal only on a process's own terminal, and no thread of this one holds a lock here.
        preexec_fn=lambda: (os.setsid(), os.close(os.open(os.ttyname(its), os.O_RDWR))),  # noqa: PLW1509
    ) as running:
        seen = b""
        while b"q leaves" not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, key)
        assert running.wait(30) == 0
    assert b"No supervisor answers" in seen
    assert termios.tcgetattr(its) == before
    os.close(ours)
    os.close(its)
