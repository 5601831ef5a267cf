"""The metadata service, on a server with its paths, tokens, 401 and 404."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.adapters.ec2 import Metadata
from appliance.domain.errors import Unavailable
from appliance.domain.notice import Seen
from tests.metadata import INSTANCE_ID, REBALANCE, SPOT, SPOT_NOTICE, STATE, Instance, instance


@pytest.fixture
def ec2() -> Iterator[Instance]:
    with instance() as ec2:
        yield ec2


def asked(ec2: Instance) -> Metadata:
    """With more patience than the service has: this machine may be busy."""
    return Metadata(ec2.url, timeout_seconds=20.0)


def test_a_host_learns_its_name_and_that_it_stays(ec2: Instance) -> None:
    metadata = asked(ec2)
    assert metadata.instance_id() == INSTANCE_ID
    assert metadata.look() == Seen(target_state="InService")
    assert ec2.asked == ["instance-id", SPOT, REBALANCE, STATE]
    assert ec2.tokens_made == 1


def test_f39_every_notice_is_read(ec2: Instance) -> None:
    ec2.says |= {SPOT: SPOT_NOTICE, REBALANCE: '{"noticeTime": "2026-11-25T10:00:00Z"}', STATE: "Terminated\n"}
    seen = asked(ec2).look()
    assert seen == Seen("terminate", "2026-11-25T10:02:00Z", "2026-11-25T10:00:00Z", "Terminated")


def test_outside_of_a_group_there_is_no_state(ec2: Instance) -> None:
    del ec2.says[STATE]
    assert asked(ec2).look() == Seen()


def test_a_token_that_has_ended_is_made_anew(ec2: Instance) -> None:
    metadata = asked(ec2)
    metadata.look()
    ec2.tokens.clear()
    assert metadata.look() == Seen(target_state="InService")
    assert ec2.tokens_made == 2


def test_tokens_that_are_never_taken_are_not_asked_for_again_and_again(ec2: Instance) -> None:
    class Deaf(set[str]):
        def add(self, _token: str) -> None:
            """Forgotten at once."""

    ec2.tokens = Deaf()
    with pytest.raises(Unavailable, match="401"):
        asked(ec2).look()
    assert ec2.tokens_made == 2


def test_f30_nobody_there_is_said_with_what_to_do_and_nothing_is_guessed() -> None:
    with pytest.raises(Unavailable, match=r"at http://127\.0\.0\.1:9 does not answer") as caught:
        Metadata("http://127.0.0.1:9").look()
    assert caught.value.dependency == "ec2"
    assert "fleet.notices: false" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "text"), [(SPOT, "<html>"), (SPOT, '["terminate"]'), (REBALANCE, '{"noticeTime": 7}')]
)
def test_f30_something_unreadable_is_no_notice(ec2: Instance, path: str, text: str) -> None:
    ec2.says[path] = text
    with pytest.raises(Unavailable, match="unreadable"):
        asked(ec2).look()


def test_f30_what_has_no_instance_id_is_not_ec2(ec2: Instance) -> None:
    ec2.says["instance-id"] = "<html>Welcome</html>"
    with pytest.raises(Unavailable, match="no instance-id"):
        asked(ec2).instance_id()


def test_a_proxy_of_the_environment_is_not_asked(ec2: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert asked(ec2).instance_id() == INSTANCE_ID
