"""The supervisor's loop, with real children and real signals. The story is told by a thread beside it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from appliance.adapters.ec2 import TIMEOUT_SECONDS
from appliance.config import Config, Encode, Log, Web
from appliance.domain.errors import ConfigError
from appliance.domain.notice import SPOT_SECONDS
from appliance.supervisor.notices import ASK_SECONDS
from appliance.supervisor.pool import BETWEEN_SIGNALS_SECONDS, RELEASE_SECONDS, State
from appliance.supervisor.process import TURN_SECONDS
from appliance.supervisor.tokens import start_time
from tests.supervisor import children
from tests.supervisor.stage import FAST, Theatre, alive, tell, until, with_pool


def test_f37_sigterm_drains_and_ends_with_0(tmp_path):
    theatre = Theatre(tmp_path, children.quiet, config=with_pool(encoders=2))

    def story() -> None:
        until(lambda: theatre.states() == ["idle", "idle"])
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert [line["reason"] for line in theatre.events("ENCODER_ENDED")] == ["drained", "drained"]


def test_f38_the_second_sigterm_releases_at_once(tmp_path):
    theatre = Theatre(tmp_path, partial(children.hold, token=uuid4()))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        tell(signal.SIGTERM)
        until(lambda: theatre.states() == ["draining"])
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert theatre.metrics.value("jobs", "released") == 1
    assert theatre.recorder.calls == []


def test_f38_sigint_releases_at_once(tmp_path):
    theatre = Theatre(tmp_path, partial(children.hold, token=uuid4()))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        tell(signal.SIGINT)

    assert theatre.play(story) == 0
    assert theatre.metrics.value("jobs", "released") == 1


def test_f02_the_tokens_of_a_killed_child_are_abandoned_and_nothing_else(tmp_path):
    token, chunk = uuid4(), uuid4()
    holding = partial(children.hold, token=token, chunk=chunk)
    theatre = Theatre(tmp_path, children.of(holding, children.quiet), config=with_pool(encoders=2))

    def story() -> None:
        until(lambda: theatre.states() == ["busy", "idle"])
        for slot in theatre.board.slots:
            os.kill(slot.pid, signal.SIGKILL)
        until(lambda: len(theatre.recorder.calls) == 2)
        until(lambda: theatre.states() == ["busy", "idle"])
        tell(signal.SIGINT)

    assert theatre.play(story) == 0
    assert theatre.recorder.calls == [("abandon_chunk", chunk), ("abandon", token)]
    assert theatre.metrics.value("slot_restarts", "killed") == 2


def test_the_tokens_lie_in_the_runtime_directory_as_long_as_they_are_held(tmp_path):
    token = uuid4()
    theatre = Theatre(tmp_path, partial(children.hold, token=token))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        kept = list(theatre.files.left_over())
        assert [tokens.videos for tokens in kept] == [{token}]
        assert kept[0].started == start_time(kept[0].pid)
        tell(signal.SIGINT)

    assert theatre.play(story) == 0
    assert list(theatre.files.left_over()) == []


def test_a_runtime_directory_that_cannot_be_written_stops_nothing_and_is_said_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    theatre = Theatre(tmp_path / "file", children.one_job)

    def story() -> None:
        until(lambda: theatre.metrics.value("jobs", "ok") == 1)
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert len(theatre.events("TOKENS_NOT_KEPT")) <= 1


def test_f32_a_crash_loop_is_logged_counted_and_does_not_end_the_supervisor(tmp_path):
    theatre = Theatre(tmp_path, children.of(children.crash, children.quiet), config=with_pool(encoders=2))

    def story() -> None:
        until(lambda: theatre.metrics.value("slot_restarts", "crashed") >= 3)
        assert theatre.states()[1] == "idle"
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert "died with exit 1" in theatre.events("ENCODER_ENDED")[0]["why"]


def test_f40_a_child_that_refuses_its_configuration_ends_the_unit_with_78(tmp_path):
    theatre = Theatre(tmp_path, children.of(children.refuse, children.quiet), config=with_pool(encoders=2))
    assert theatre.play(lambda: None) == 78
    assert len(theatre.events("CONFIGURATION_REFUSED")) == 1


def test_f40_a_bad_file_at_reload_leaves_the_old_settings(tmp_path):
    def read() -> Config:
        raise ConfigError(["line 3: pool.encoder: unknown setting; did you mean `encoders`?"])

    theatre = Theatre(tmp_path, children.quiet, read=read)
    pids = []

    def story() -> None:
        until(lambda: theatre.states() == ["idle"])
        pids.append(theatre.board.slots[0].pid)
        tell(signal.SIGHUP)
        until(lambda: theatre.events("RELOAD_FAILED"))
        pids.append(theatre.board.slots[0].pid)
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert "did you mean" in theatre.events("RELOAD_FAILED")[0]["problems"][0]
    assert theatre.answer.read() == {"problems": theatre.events("RELOAD_FAILED")[0]["problems"]}
    assert pids[0] == pids[1]


def test_a_reload_resizes_the_pool_recycles_encoders_and_says_what_needs_a_restart(tmp_path):
    new = Config(pool=replace(FAST, encoders=2), encode=Encode(preset="fast"), web=Web(port=9101), log=Log("debug"))
    theatre = Theatre(tmp_path, children.quiet, read=lambda: new)
    pids = []

    def story() -> None:
        until(lambda: theatre.states() == ["idle"])
        pids.append(theatre.board.slots[0].pid)
        tell(signal.SIGHUP)
        until(lambda: theatre.states() == ["idle", "idle"] and theatre.board.slots[0].pid != pids[0])
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    (line,) = theatre.events("RELOADED")
    assert line["at_once"] == ("pool.encoders", "log.level")
    assert line["as_encoders_become_idle"] == ("encode.preset", "log.level")
    assert line["supervisor_needs_restart"] == ("web.port",)
    assert theatre.answer.read() == {
        "problems": [],
        "at_once": ["pool.encoders", "log.level"],
        "as_encoders_become_idle": ["encode.preset", "log.level"],
        "supervisor_needs_restart": ["web.port"],
    }


def test_a_recycled_encoder_works_with_the_new_settings(tmp_path):
    old, new = (Config(pool=FAST, encode=Encode(chunk_seconds=seconds)) for seconds in (30.0, 90.0))
    theatre = Theatre(tmp_path, children.configured, config=old, read=lambda: new)

    def story() -> None:
        until(lambda: theatre.board.slots[0].video_id == 30)
        tell(signal.SIGHUP)
        until(lambda: theatre.events("RELOADED"))
        os.kill(theatre.board.slots[0].pid, signal.SIGKILL)
        until(lambda: theatre.board.slots[0].video_id == 90)
        tell(signal.SIGINT)

    assert theatre.play(story) == 0


def test_sigusr1_dumps_the_state(tmp_path):
    token = uuid4()
    theatre = Theatre(tmp_path, partial(children.hold, token=token))

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        tell(signal.SIGUSR1)
        until(lambda: theatre.events("STATE"))
        tell(signal.SIGINT)

    assert theatre.play(story) == 0
    (state,) = theatre.events("STATE")
    assert state["tokens"] == {0: [str(token)]}
    assert state["slots"][0]["video_id"] == 7


def test_systemd_hears_ready_after_the_first_boot_then_status_watchdog_and_the_drain(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(20)
        heard: list[str] = []
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"}
        theatre = Theatre(tmp_path / "run", children.quiet, environment=environment)

        def listen(end: str) -> None:
            while not heard or not heard[-1].startswith(end):
                heard.append(systemd.recv(4096).decode())

        def story() -> None:
            listen("STATUS=1 encoders: 1 idle")
            tell(signal.SIGTERM)
            listen("EXTEND_TIMEOUT_USEC=")

        assert theatre.play(story) == 0
    assert heard.index("READY=1") < heard.index("STATUS=1 encoders: 1 idle") < heard.index("STOPPING=1")
    assert "WATCHDOG=1" in heard


def test_not_ready_while_no_encoder_has_booted(tmp_path):
    theatre = Theatre(tmp_path, children.crash)
    ready = []

    def story() -> None:
        until(lambda: theatre.metrics.value("slot_restarts", "crashed") >= 1)
        ready.extend(theatre.board.unready(theatre.dependencies.down_seconds()))
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0
    assert ready == ["no encoder is running"]
    assert theatre.events("ENCODER_BOOTED") == []


def test_a_childs_view_of_a_dependency_ends_with_the_child(tmp_path):
    theatre = Theatre(tmp_path, children.quiet)
    theatre.dependencies.seen_by_child("slot 0", {"redis": False})

    def story() -> None:
        until(lambda: theatre.states() == ["idle"])
        assert theatre.dependencies.down_seconds()["redis"] is not None
        os.kill(theatre.board.slots[0].pid, signal.SIGKILL)
        until(lambda: theatre.dependencies.down_seconds()["redis"] is None)
        tell(signal.SIGTERM)

    assert theatre.play(story) == 0


def test_a_mistake_in_the_loop_leaves_no_child_and_no_handler_behind(tmp_path, monkeypatch):
    theatre = Theatre(tmp_path, children.quiet)
    before = signal.getsignal(signal.SIGTERM)
    pids = []

    def broken() -> list[object]:
        if theatre.pool.slots[0].state is State.IDLE:
            pids.append(theatre.pool.slots[0].tokens.pid)
            raise ZeroDivisionError
        return []

    monkeypatch.setattr(theatre.pool, "watch", broken)
    with pytest.raises(ZeroDivisionError):
        theatre.play(lambda: None)
    until(lambda: not alive(pids[0]))
    assert signal.getsignal(signal.SIGTERM) is before
    theatre.pool.hear()
    until(theatre.pool.ended)
    theatre.pool.reap(theatre.pool.ended())


def test_the_loop_turns_while_the_abandoner_waits_for_its_database(tmp_path):
    theatre = Theatre(tmp_path, partial(children.hold, token=uuid4()))
    answered = threading.Event()
    theatre.recorder.abandon = lambda _token: not answered.wait(20) or None

    def story() -> None:
        until(lambda: theatre.states() == ["busy"])
        pid = theatre.board.slots[0].pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: theatre.states() == ["busy"] and theatre.board.slots[0].pid != pid)
        turned = theatre.board.ticked_at
        until(lambda: theatre.board.ticked_at > turned)
        answered.set()
        tell(signal.SIGINT)

    assert theatre.play(story) == 0


def test_f39_a_drain_ends_before_the_two_minutes_of_a_spot_notice_are_over():
    """Noticed late, by a service that is slow; then whatever is held is given back at its last finished chunk."""
    noticed = ASK_SECONDS + 5 * TIMEOUT_SECONDS + TURN_SECONDS
    assert noticed + SPOT_SECONDS + TURN_SECONDS + BETWEEN_SIGNALS_SECONDS + RELEASE_SECONDS < 120
    assert Config().pool.drain_seconds <= SPOT_SECONDS, "encoders reckon with the time that they have"
