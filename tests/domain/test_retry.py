from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import ERROR_CODES, SourceRejected, Transient, Unavailable
from appliance.domain.retry import BACKOFF_CAP_SECONDS, JITTER, Decision, backoff_seconds, decide


def test_waits_grow_fourfold_from_half_a_minute_to_an_hour():
    assert [backoff_seconds(failures, 0.0) for failures in range(1, 7)] == [30, 120, 480, 1920, 3600, 3600]


@given(st.integers(1, 50), st.floats(-1, 1))
def test_jitter_spreads_a_wait_by_a_tenth(failures, jitter):
    wait = backoff_seconds(failures, 0.0)
    assert wait * (1 - JITTER) - 1e-6 <= backoff_seconds(failures, jitter) <= wait * (1 + JITTER) + 1e-6
    assert wait <= BACKOFF_CAP_SECONDS


def test_a_rejected_source_is_not_tried_again():
    error = SourceRejected("There is no file a.mp4 in storage.", code="source_missing")
    assert decide(error, failure_count=0, max_attempts=5, jitter=0) == Decision(
        "source_missing", "There is no file a.mp4 in storage.", None
    )


@pytest.mark.parametrize(("failure_count", "wait"), [(0, 30), (1, 120), (2, 480), (3, 1920), (4, None), (9, None)])
def test_a_transient_error_is_tried_again_until_the_last_attempt(failure_count, wait):
    decision = decide(Transient("x"), failure_count=failure_count, max_attempts=5, jitter=0)
    assert decision == Decision("encode_failed", "x", wait)


@pytest.mark.parametrize("error", [Transient("x", code="made_up"), Unavailable("s3", "x"), Transient("x")])
def test_only_codes_with_a_sentence_reach_the_row(error):
    assert decide(error, failure_count=0, max_attempts=5, jitter=0).error_code in ERROR_CODES
