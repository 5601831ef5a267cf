from __future__ import annotations

import pytest

from appliance.domain.errors import LeaseLost, Refused, Unavailable
from appliance.encoder import patience
from appliance.encoder.patience import insist
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
