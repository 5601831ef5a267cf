from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import UnreadableMessage
from appliance.domain.message import MAX_BODY_BYTES, MAX_ID, Message, Outcome, Settlement, parse, settle
from appliance.domain.video import ClaimMiss


def test_only_the_video_id_is_required_and_unknown_keys_are_ignored():
    assert parse('{"video_id": 7, "colour": "green"}') == Message(7)


@pytest.mark.parametrize("created_at", ["2026-01-01T00:00:00Z", 1767225600.5, None])
def test_the_seeds_message_is_read_whole(created_at):
    fields = {"video_id": 7, "tenant_id": 3, "file_key": "a.mp4", "tenant_code": "x", "attempt": 2}
    fields["created_at"] = created_at
    assert parse(json.dumps(fields)) == Message(7, 3, "a.mp4", "x", created_at, 2)


def test_an_optional_field_of_the_wrong_type_is_left_out_because_the_row_decides():
    body = '{"video_id": 7, "tenant_id": "3", "file_key": 4, "created_at": [], "attempt": true}'
    assert parse(body) == Message(7)


@given(
    st.builds(
        Message,
        video_id=st.integers(1, MAX_ID),
        tenant_id=st.none() | st.integers(1, MAX_ID),
        file_key=st.text(max_size=50),
        tenant_code=st.text(max_size=10),
        created_at=st.none() | st.text(max_size=30) | st.floats(allow_nan=False, allow_infinity=False),
        attempt=st.integers(),
    )
)
def test_what_is_written_is_read(message):
    assert parse(message.body()) == message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "not JSON"),
        ("not json", "not JSON"),
        ("[" * 100_000, "larger"),
        ("[" * 16_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        ("[7]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "video_id"),
        ('{"video_id": "7"}', "video_id"),
        ('{"video_id": true}', "video_id"),
        ('{"video_id": 7.0}', "video_id"),
        ('{"video_id": 0}', "video_id"),
        ('{"video_id": -7}', "video_id"),
        (f'{{"video_id": {MAX_ID + 1}}}', "video_id"),
        ('{"video_id": 7, "x": "' + "y" * MAX_BODY_BYTES + '"}', "larger"),
    ],
)
def test_f09_an_unreadable_body_is_refused_with_the_reason(body, why):
    with pytest.raises(UnreadableMessage, match=why):
        parse(body)


@given(st.text(max_size=200) | st.recursive(st.floats() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_f09_no_body_raises_anything_else(body):
    # no body of these is a JSON object with a video_id
    with pytest.raises(UnreadableMessage):
        parse(body)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("miss", [None, *ClaimMiss])
def test_with_fast_ack_the_message_is_never_touched_again(outcome, miss):
    assert settle(outcome, fast_ack=True, miss=miss) is Settlement.NOTHING


@pytest.mark.parametrize(
    ("outcome", "miss", "settlement"),
    [
        (Outcome.OK, None, Settlement.DELETE),
        (Outcome.CANCELLED, None, Settlement.DELETE),
        (Outcome.ALREADY_READY, ClaimMiss.READY, Settlement.DELETE),
        (Outcome.NOT_CLAIMED, ClaimMiss.LOCKED, Settlement.LATER),
        (Outcome.NOT_CLAIMED, None, Settlement.LATER),
        (Outcome.NOT_CLAIMED, ClaimMiss.OWNED, Settlement.DELETE),
        (Outcome.NOT_CLAIMED, ClaimMiss.FAILED, Settlement.DELETE),
        (Outcome.NOT_CLAIMED, ClaimMiss.PENDING, Settlement.DELETE),
        (Outcome.NOT_CLAIMED, ClaimMiss.UNKNOWN, Settlement.DELETE),
        (Outcome.NOT_CLAIMED, ClaimMiss.NOT_DUE, Settlement.DELETE),
        (Outcome.FAILED, None, Settlement.DELETE),
        (Outcome.LOST, None, Settlement.DELETE),
        (Outcome.RELEASED, None, Settlement.RETURN),
    ],
)
def test_without_fast_ack_the_table_of_the_design_decides(outcome, miss, settlement):
    assert settle(outcome, fast_ack=False, miss=miss) is settlement
