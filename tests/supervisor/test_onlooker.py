from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.adapters.postgres.reports import Reports
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.supervisor import onlooker
from appliance.supervisor.board import Board, SlotView
from appliance.supervisor.onlooker import Onlooker
from tests.supervisor.rows import Rows, closing
from tests.supervisor.stage import until


class House:
    """An onlooker whose questions are counted."""

    def __init__(self, reports: Any, tick_seconds: float = 1000.0) -> None:
        self.board = Board(0.0, 0.0)
        self.asked: list[str] = []
        self.closed = 0
        self._reports = reports
        self.onlooker = Onlooker(self.board, self, self._close, tick_seconds)

    def recent(self, limit: int) -> Any:
        self.asked.append("recent")
        return self._reports.recent(limit)

    def at_work(self, video_ids: list[int]) -> Any:
        self.asked.append(f"at_work {video_ids}")
        return self._reports.at_work(video_ids)

    def _close(self) -> None:
        self.closed += 1


class Failing:
    def __init__(self, error: ApplianceError) -> None:
        self.error = error

    def recent(self, _limit: int) -> Any:
        raise self.error


@pytest.fixture
def rows(dsn, redis_url, aws, queue_url) -> Iterator[Rows]:
    with closing(Rows(dsn, redis_url, aws, queue_url)) as rows:
        yield rows


def test_nobody_looks_and_the_database_is_left_alone(rows):
    house = House(Reports(rows.database))
    house.onlooker.turn()
    assert (house.asked, house.closed) == ([], 1)
    assert len(house.board.history.samples) == 1


def test_while_somebody_looks_it_is_asked_once_a_tick_for_what_runs_here(rows):
    lease = rows.held()
    house = House(Reports(rows.database))
    house.board.slots = (SlotView(0, "busy", 7, 1.0, 0, lease.video_id, None, "", None, None),)
    for _ in range(5):
        house.onlooker.look()
        house.onlooker.turn()
    assert house.asked == ["recent", f"at_work [{lease.video_id}]"]
    assert [row["video_id"] for row in house.board.recent] == [lease.video_id]
    assert house.board.at_work.workers == [lease.worker.name]
    assert house.board.seen_at is not None
    assert house.closed == 0


def test_the_first_look_is_answered_without_waiting_for_a_tick_and_the_last_one_ends_it(rows, monkeypatch):
    house = House(Reports(rows.database))
    house.onlooker.start()
    until(lambda: house.closed)
    house.onlooker.look()
    until(lambda: house.board.at_work)
    monkeypatch.setattr(Onlooker, "_watched", lambda _self: False)
    house.onlooker.stop(20)
    assert not house.onlooker._thread.is_alive()
    assert house.closed == 2


def test_somebody_who_went_away_is_forgotten(rows):
    house = House(Reports(rows.database), tick_seconds=1.0)
    house.onlooker.look()
    assert house.onlooker._watched()
    house.onlooker._looked_at -= onlooker.GONE_SECONDS
    assert not house.onlooker._watched()


@pytest.mark.parametrize("error", [Unavailable("postgres", "It is away."), ApplianceError("The schema is old.")])
def test_what_was_seen_last_stays_while_the_database_is_away(rows, error):
    house = House(Reports(rows.database), tick_seconds=0.0)
    house.onlooker.look()
    house.onlooker.turn()
    seen = (house.board.seen_at, house.board.at_work)
    house._reports = Failing(error)
    house.onlooker.turn()
    assert len(house.asked) == 3
    assert (house.board.seen_at, house.board.at_work) == seen


def test_the_plot_has_a_gap_where_the_backlog_is_not_known():
    house = House(None, tick_seconds=0.001)
    house.board.history._spacing_seconds = 0.0
    house.board.backlog, house.board.learnt_at = {"UPLOADED": 3, "PROCESSING": 1}, time.monotonic() + 1000
    house.onlooker.turn()
    house.board.learnt_at = time.monotonic() - 1000
    house.onlooker.turn()
    assert [(it.uploaded, it.processing) for it in house.board.history.samples] == [(3, 1), (None, None)]
