"""Slots, on real processes of the real fork server."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from uuid import uuid4

import pytest

from appliance.config import Pool as Settings
from appliance.supervisor.board import view
from appliance.supervisor.pool import EDGES, Happening, Pool, State, backoff_seconds
from tests.supervisor import children
from tests.supervisor.stage import FAST, alive, pool_of, turn, turn_until


def test_every_state_can_be_entered_and_left():
    assert {state for state, _ in EDGES} == set(State)
    assert set(EDGES.values()) == set(State)
    assert {happening for _, happening in EDGES} == set(Happening)


def test_a_child_boots_works_and_becomes_idle_again():
    with pool_of(children.one_job) as pool:
        slot = pool.slots[0]
        turn_until(pool, lambda: slot.job_at and slot.state is State.IDLE)
        assert not slot.tokens


def test_a_busy_slot_knows_its_token_its_video_and_its_progress():
    token, chunk = uuid4(), uuid4()
    with pool_of(partial(children.hold, token=token, chunk=chunk)) as pool:
        slot = pool.slots[0]
        turn_until(pool, lambda: slot.progress)
        assert slot.state is State.BUSY
        assert (slot.tokens.videos, slot.tokens.chunks) == ({token}, {chunk})
        assert (slot.job.video_id, slot.progress.percent) == (7, 40.0)


def test_a_slot_that_helps_is_busy_with_the_others_video_until_its_chunk_ends():
    token = uuid4()
    with pool_of(partial(children.help_others, token=token)) as pool:
        slot = pool.slots[0]
        turn_until(pool, lambda: slot.state is State.BUSY)
        shown = view(slot, slot.since + 1)
        assert (shown.state, shown.video_id, shown.step) == ("busy", 9, "assist")
        assert slot.tokens.chunks == {token}
        slot.signal(signal.SIGTERM)
        turn_until(pool, lambda: not slot.tokens)
        assert slot.job is None


def test_a_killed_child_hands_over_its_tokens_and_is_replaced():
    token = uuid4()
    with pool_of(partial(children.hold, token=token)) as pool:
        turn_until(pool, lambda: pool.slots[0].state is State.BUSY)
        pid = pool.slots[0].tokens.pid
        os.kill(pid, signal.SIGKILL)
        deaths = turn_until(pool, lambda: pool.slots[0].process and pool.slots[0].tokens.pid != pid)
        assert [(death.reason, death.pid, death.tokens.videos) for death in deaths] == [("killed", pid, {token})]
        assert "out of memory?" in deaths[0].sentence


def test_f32_a_crash_loop_backs_off_twice_as_long_each_time_up_to_the_cap():
    settings = Settings(backoff_first_seconds=1, backoff_cap_seconds=60)
    assert [backoff_seconds(crashes, settings) for crashes in (1, 2, 3, 6, 7, 5000)] == [1, 2, 4, 32, 60, 60]


def test_f32_a_child_that_crashes_at_once_is_started_again_after_a_growing_wait():
    with pool_of(children.crash) as pool:
        deaths, waits = [], []

        def crashed_thrice() -> bool:
            slot = pool.slots[0]
            if slot.state is State.BACKOFF and slot.crashes > len(waits):
                waits.append(slot.due_at - slot.since)
            return len(waits) == 3

        deaths = turn_until(pool, crashed_thrice)
        assert {death.reason for death in deaths} == {"crashed"}
        assert waits == pytest.approx([0.05, 0.1, 0.2])


def test_a_stable_run_forgives_earlier_crashes():
    with pool_of(children.quiet) as pool:
        slot = pool.slots[0]
        turn_until(pool, lambda: slot.state is State.IDLE)
        slot.crashes, slot.spawned_at = 5, time.monotonic() - FAST.backoff_cap_seconds
        slot.signal(signal.SIGKILL)
        turn_until(pool, lambda: slot.state is State.BACKOFF)
        assert slot.crashes == 1


def test_a_silent_child_is_killed():
    with pool_of(children.deaf, settings=Settings(silent_seconds=0.1, backoff_first_seconds=60)) as pool:
        deaths = turn_until(pool, lambda: pool.slots[0].state is State.BACKOFF)
        assert [death.reason for death in deaths] == ["silent"]


def test_a_child_that_does_not_boot_is_killed():
    with pool_of(children.mute, settings=Settings(boot_seconds=0.1, backoff_first_seconds=60)) as pool:
        deaths = turn_until(pool, lambda: pool.slots[0].state is State.BACKOFF)
        assert [death.reason for death in deaths] == ["boot"]


def test_half_an_event_does_not_stop_the_loop():
    with pool_of(children.half_an_event, settings=Settings(silent_seconds=0.2, backoff_first_seconds=60)) as pool:
        deaths = turn_until(pool, lambda: pool.slots[0].state is State.BACKOFF)
        assert [death.reason for death in deaths] == ["silent"]


def test_f37_a_drained_child_leaves_and_is_not_replaced():
    with pool_of(children.quiet, 2) as pool:
        turn_until(pool, lambda: all(slot.state is State.IDLE for slot in pool.slots))
        pool.drain()
        deaths = turn_until(pool, lambda: pool.empty)
        assert {(death.reason, death.exit_status) for death in deaths} == {("drained", 0)}
        turn(pool)
        assert [slot.state for slot in pool.slots] == [State.STOPPED, State.STOPPED]


def test_f38_release_is_heard_as_a_second_signal_even_by_a_child_that_was_not_told_before():
    with pool_of(partial(children.hold, token=uuid4())) as pool:
        turn_until(pool, lambda: pool.slots[0].state is State.BUSY)
        pool.release()
        deaths = turn_until(pool, lambda: pool.empty)
        assert [(death.reason, death.exit_status, bool(death.tokens)) for death in deaths] == [("drained", 0, False)]


def test_f37_the_drain_budget_ends_with_a_second_signal():
    settings = Settings(drain_seconds=0.1)
    with pool_of(partial(children.hold, token=uuid4()), settings=settings) as pool:
        turn_until(pool, lambda: pool.slots[0].state is State.BUSY)
        pool.drain()
        deaths = turn_until(pool, lambda: pool.empty)
        assert [(death.exit_status, bool(death.tokens)) for death in deaths] == [(0, False)]


def test_f37_a_child_that_heeds_no_signal_is_killed(monkeypatch):
    monkeypatch.setattr("appliance.supervisor.pool.RELEASE_SECONDS", 0.1)
    with pool_of(children.deaf, settings=Settings(drain_seconds=0.1)) as pool:
        turn_until(pool, lambda: pool.slots[0].state is State.IDLE)
        pool.drain()
        deaths = turn_until(pool, lambda: pool.empty)
        assert [(death.reason, death.exit_status) for death in deaths] == [("drained", -signal.SIGKILL)]
        assert "drain budget was over" in deaths[0].sentence


def test_the_pool_grows_and_shrinks_while_it_runs():
    with pool_of(children.quiet, 3) as pool:
        turn_until(pool, lambda: all(slot.state is State.IDLE for slot in pool.slots))
        pool.resize(1)
        turn_until(pool, lambda: [slot.number for slot in pool.slots] == [0])
        pool.resize(2)
        turn_until(pool, lambda: [slot.state for slot in pool.slots] == [State.IDLE, State.IDLE])


def test_recycling_replaces_an_idle_child_and_leaves_a_busy_one_its_job():
    token = uuid4()
    with pool_of(children.of(children.quiet, partial(children.hold, token=token)), 2) as pool:
        turn_until(pool, lambda: [slot.state for slot in pool.slots] == [State.IDLE, State.BUSY])
        idle, busy = (slot.tokens.pid for slot in pool.slots)
        pool.recycle()
        turn_until(pool, lambda: pool.slots[0].state is State.IDLE and pool.slots[0].tokens.pid != idle)
        assert (pool.slots[1].tokens.pid, pool.slots[1].state) == (busy, State.BUSY)


def test_f31_children_of_a_killed_fork_server_are_killed_and_new_ones_come_up():
    with pool_of(children.quiet) as pool:
        slot = pool.slots[0]
        turn_until(pool, lambda: slot.state is State.IDLE)
        pid = slot.tokens.pid
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        turn_until(pool, lambda: slot.state is State.IDLE and slot.tokens.pid != pid)
        turn_until(pool, lambda: not alive(pid))


def test_a_child_that_cannot_be_made_is_tried_again_later():
    def spawn(_slot: int):
        raise OSError(11, "Resource temporarily unavailable")

    pool = Pool(spawn, Settings(backoff_first_seconds=60), time.monotonic)
    pool.resize(1)
    assert pool.refill() == ["Encoder 0 could not be started: [Errno 11] Resource temporarily unavailable"]
    assert pool.slots[0].state is State.BACKOFF
    assert pool.refill() == []


def test_f42_a_child_inherits_no_socket():
    with pool_of(children.quiet) as pool:
        turn_until(pool, lambda: pool.slots[0].state is State.IDLE)
        directory = Path(f"/proc/{pool.slots[0].tokens.pid}/fd")
        links = [str(entry.readlink()) for entry in directory.iterdir()]
        assert not [link for link in links if link.startswith("socket:")], links
