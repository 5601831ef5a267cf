from __future__ import annotations

import threading

import pytest

from appliance.domain.errors import LeaseLost, Refused, Unavailable
from appliance.encoder import patience
from appliance.encoder.patience import AT_A_TIME, each, insist
from tests.encoder.test_pipeline import Desk


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AGAIN_SECONDS", 0.001)


def test_f23_a_statement_is_said_again_until_the_database_is_back() -> None:
    answers = [Unavailable("postgres", "PostgreSQL does not answer.")] * 3

    def statement() -> str:
        if answers:
            raise answers.pop()
        return "done"

    assert insist(Desk(), statement) == "done"


def test_a_job_that_is_over_does_not_wait_for_the_database() -> None:
    job = Desk()

    def over() -> None:
        raise LeaseLost("The row is somebody else's.")

    def statement() -> None:
        raise Unavailable("postgres", "PostgreSQL does not answer.")

    job.at_check = over
    with pytest.raises(LeaseLost):
        insist(job, statement)


def test_f27_a_policy_that_is_only_not_known_everywhere_yet_costs_nothing() -> None:
    answers = [
        Refused("s3", "S3 refuses it."),
        Unavailable("s3", "S3 does not answer."),
        Refused("s3", "S3 refuses it."),
    ]

    def statement() -> str:
        if answers:
            raise answers.pop()
        return "done"

    assert insist(Desk(), statement, seconds=600) == "done"


def test_f27_what_stays_refused_is_told_long_before_what_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REFUSED_SECONDS", 0.01)

    def statement() -> None:
        raise Refused("s3", "S3 refuses it.")

    with pytest.raises(Refused):
        insist(Desk(), statement, seconds=600)


def test_f27_storage_that_stays_away_longer_than_the_bound_is_told() -> None:
    def statement() -> None:
        raise Unavailable("s3", "S3 does not answer.")

    with pytest.raises(Unavailable):
        insist(Desk(), statement, seconds=0.01)


def test_calls_side_by_side_answer_in_the_order_of_their_items() -> None:
    others = threading.Barrier(AT_A_TIME)

    def call(item: int) -> int:
        others.wait(30)  # nobody gets on before as many are there
        return -item

    assert each(range(2 * AT_A_TIME), call) == [-item for item in range(2 * AT_A_TIME)]


def test_of_calls_side_by_side_one_that_raised_is_told_when_the_others_have_ended() -> None:
    done: list[int] = []

    def call(item: int) -> None:
        if item == 1:
            raise Unavailable("s3", "S3 does not answer.")
        done.append(item)

    with pytest.raises(Unavailable):
        each(range(9), call)
    assert sorted(done) == [0, *range(2, 9)]
