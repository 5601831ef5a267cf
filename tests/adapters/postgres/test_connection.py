"""One connection: replaced when it was dropped, never trusted with a guess about a commit."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.adapters.postgres import connection as connection_module
from appliance.adapters.postgres.connection import AmbiguousCommit, Database
from appliance.domain.errors import ApplianceError, ConfigError, LeaseLost, Unavailable
from appliance.domain.retry import Decision
from appliance.domain.video import Lease, Status
from tests.adapters.postgres.stage import WORKER, claimed, make_leases


@pytest.fixture
def plain(open_database) -> Database:
    """On real time."""
    return open_database()


def backend(database: Database) -> int:
    """Process id of the server's end."""
    return database._connection.info.backend_pid


def test_it_answers_a_ping_and_knows_when_it_last_did(plain) -> None:
    assert plain.answered_seconds_ago() == float("inf")
    assert plain.ping() is True
    assert plain.answered_seconds_ago() < 60


def test_the_session_is_what_the_statements_rely_on(plain, admin) -> None:
    plain.run("backlog")
    asked = "SELECT current_setting('{}') AS value"
    with plain._lock:
        values = [
            plain._execute(asked.format(name), {})[0]["value"]
            for name in ("statement_timeout", "default_transaction_isolation", "TimeZone", "application_name")
        ]
    assert values == ["10s", "read committed", "UTC", "test"]
    (row,) = admin("SELECT query FROM pg_stat_activity WHERE pid = %s", backend(plain))
    assert "application_name" in row["query"]


def test_a_statements_name_can_be_read_in_pg_stat_activity(plain, admin) -> None:
    plain.run("backlog")
    (row,) = admin("SELECT query FROM pg_stat_activity WHERE pid = %s", backend(plain))
    assert row["query"].startswith("/* video-appliance backlog */")


def kept(database: Database) -> set[str]:
    """Statements whose plans the server's end keeps."""
    rows = database._execute("SELECT name FROM pg_prepared_statements", {})
    return {row["name"].rpartition("_")[0] for row in rows}


def test_a_statement_that_runs_again_and_again_keeps_its_plan_until_the_connection_is_another(plain) -> None:
    leases = make_leases(plain)
    for _ in range(connection_module.PREPARED_RUN):
        leases.submit("a.mp4", 1)
    assert kept(plain) == set()
    leases.submit("a.mp4", 1)
    assert kept(plain) == {"submit"}
    plain.close()
    leases.submit("a.mp4", 1)
    assert kept(plain) == set()


@pytest.mark.parametrize("lost", ["DEALLOCATE ALL", "ALTER TABLE video ALTER file_key TYPE varchar(900)"])
def test_a_kept_plan_that_is_gone_or_fits_no_more_costs_nothing_but_its_speed(plain, admin, monkeypatch, lost) -> None:
    """Behind a pooler the next statement may meet another server process."""
    monkeypatch.setattr(connection_module, "PREPARED_RUN", 0)
    leases = make_leases(plain)
    claimed(leases, leases.submit("a.mp4", 1))
    plain.run("video", video_id=1)
    plain._execute(lost, {})
    assert plain.run("video", video_id=1) == []
    lease = claimed(leases, leases.submit("a.mp4", 1))
    leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    assert plain._prepares is False
    assert [attempt["outcome"] for attempt in admin.attempts(lease.video_id)] == ["ready"]
    admin("ALTER TABLE video ALTER file_key TYPE text")


def test_a_namesake_that_a_pooler_left_behind_is_not_used(plain, admin, monkeypatch) -> None:
    monkeypatch.setattr(connection_module, "PREPARED_RUN", 0)
    plain.ping()
    found, query = plain._statements["backlog"]
    preparing, _ = found.prepared(query.as_string(plain._connection))
    plain._execute(preparing, {})
    assert plain.run("backlog")[0]["uploaded"] == 0
    assert plain._prepares is False


def test_every_statement_of_the_work_can_be_prepared(plain) -> None:
    plain.ping()
    for found, query in plain._statements.values():
        if not found.name.startswith("migrate_"):
            plain._execute(found.prepared(query.as_string(plain._connection))[0], {})


def test_plans_are_made_anew_after_a_while(plain, monkeypatch) -> None:
    """A plan that was made while a table was empty may be a bad one now."""
    monkeypatch.setattr(connection_module, "PREPARED_RUN", 0)
    monkeypatch.setattr(connection_module, "PLANS_SECONDS", -1.0)
    asked: list[str] = []
    execute = plain._execute
    monkeypatch.setattr(plain, "_execute", lambda query, values: (asked.append(str(query)), execute(query, values))[1])
    plain.run("backlog")
    plain.run("backlog")
    assert asked.count("DISCARD PLANS") == 2


def test_f25_an_idle_connection_that_was_dropped_is_replaced(plain, admin) -> None:
    leases = make_leases(plain)
    lease = claimed(leases, leases.submit("a.mp4", 1))
    admin("SELECT pg_terminate_backend(%s)", backend(plain))
    leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    assert admin.row(lease.video_id)["status"] == "READY"


def test_f25_an_idle_connection_that_a_proxy_forgot_is_asked_before_a_write(proxy, open_database, admin, monkeypatch):
    """Nothing says that it is gone until something is sent."""
    leases = make_leases(open_database(dsn=proxy.dsn))
    lease = claimed(leases, leases.submit("a.mp4", 1))
    monkeypatch.setattr(connection_module, "TRUSTED_SECONDS", -1.0)
    proxy.drop("check")
    leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    assert proxy.acted
    assert [attempt["outcome"] for attempt in admin.attempts(lease.video_id)] == ["ready"]


def test_a_read_is_repeated_when_its_answer_is_lost(proxy, open_database) -> None:
    database = open_database(dsn=proxy.dsn)
    database.ping()
    proxy.swallow("backlog")
    assert database.run("backlog")[0]["uploaded"] == 0
    assert proxy.acted


def test_a_write_whose_answer_is_lost_is_ambiguous_and_not_repeated(proxy, open_database, admin) -> None:
    leases = make_leases(open_database(dsn=proxy.dsn))
    proxy.swallow("submit")
    with pytest.raises(AmbiguousCommit) as caught:
        leases.submit("a.mp4", 1)
    assert caught.value.dependency == "postgres"
    assert len(admin("SELECT * FROM video")) == 1


def test_a_server_that_stops_answering_is_given_up_on(proxy, open_database, monkeypatch) -> None:
    monkeypatch.setattr(connection_module, "MARGIN_SECONDS", 0.0)
    database = open_database(dsn=proxy.dsn, statement_timeout_seconds=0.2)
    database.ping()
    proxy.freeze("ring_failed")
    with pytest.raises(AmbiguousCommit, match=r"no answer within 0\.2 s"):
        database.run("ring_failed", video_ids=[1])
    assert database.ping()


def test_f23_nothing_listens_is_unavailable_and_says_what_to_check(open_database) -> None:
    database = open_database(dsn="postgresql://user:s3cret@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught:
        database.run("backlog")
    assert "refused" in caught.value.sentence
    assert "database.dsn" in caught.value.hint
    assert "s3cret" not in str(caught.value)
    assert database.ping() is False


def test_f23_a_restarted_server_is_used_again(postgres, plain) -> None:
    plain.run("backlog")
    postgres.stop()
    with pytest.raises(Unavailable):
        plain.run("backlog")
    postgres.start()
    assert plain.run("backlog")


def test_f49_a_dsn_that_cannot_be_read_is_not_repeated(open_database) -> None:
    with pytest.raises(ConfigError) as caught:
        open_database(dsn="s3cret at nowhere").run("backlog")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_schema_says_which_command_makes_it(open_database) -> None:
    with pytest.raises(Unavailable) as caught:
        open_database(table="no_such_table").run("backlog")
    assert caught.value.hint == "Run `video-appliance migrate`."


def test_a_statement_that_waits_for_a_lock_too_long_is_unavailable_and_was_not_committed(
    open_database, leases, admin
) -> None:
    lease = claimed(leases, leases.submit("a.mp4", 1))
    admin("BEGIN")
    admin("SELECT FROM video FOR NO KEY UPDATE")
    with pytest.raises(Unavailable) as caught:
        make_leases(open_database(statement_timeout_seconds=0.1)).renew(lease)
    admin("ROLLBACK")
    assert not isinstance(caught.value, AmbiguousCommit)
    assert "long transaction" in caught.value.hint


def test_a_refusal_of_the_platforms_own_is_an_error_with_its_reason(admin, leases) -> None:
    lease = claimed(leases, leases.submit("a.mp4", 1))
    admin("ALTER TABLE video ADD CONSTRAINT of_the_platform CHECK (status <> 'READY')")
    with pytest.raises(ApplianceError, match="of_the_platform"):
        leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    admin("ALTER TABLE video DROP CONSTRAINT of_the_platform")


def test_f26_a_full_server_says_what_to_change(admin, dsn, open_database) -> None:
    admin("CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 0")
    guest = dsn.replace(dsn.split("//")[1].split("@")[0], "guest:guest")
    with pytest.raises(Unavailable, match="too many connections") as caught:
        open_database(dsn=guest).run("backlog")
    assert "pool.encoders" in caught.value.hint
    admin("DROP ROLE guest")


def test_threads_share_a_connection_one_statement_at_a_time(plain) -> None:
    start = threading.Barrier(8)

    def ask(number: int) -> int:
        start.wait()
        return sum(len(plain.run("backlog")) for _ in range(20))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [20] * 8


def test_an_answer_that_a_signal_interrupted_belongs_to_nobody(plain, monkeypatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    plain.ping()
    with monkeypatch.context() as patched:
        patched.setattr(plain, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            plain.run("backlog")
    assert plain.run("backlog")[0]["uploaded"] == 0


def test_a_closed_database_opens_again_with_the_next_statement(plain) -> None:
    plain.run("backlog")
    plain.close()
    assert plain.run("backlog")


# -- commits whose answer was lost, and statements that never arrived


@pytest.fixture
def shaky(proxy, open_database):
    return make_leases(open_database(dsn=proxy.dsn))


@pytest.fixture
def lease(shaky) -> Lease:
    return claimed(shaky, shaky.submit("a.mp4", 1))


@pytest.mark.parametrize("fault", ["swallow", "drop"])
def test_f11_a_claim_whose_commit_is_uncertain_is_mine_only_when_the_row_says_so(shaky, proxy, admin, fault) -> None:
    video_id, token = shaky.submit("a.mp4", 1), uuid.uuid4()
    getattr(proxy, fault)("claim")
    lease = shaky.claim(video_id, WORKER, token)
    assert proxy.acted
    assert isinstance(lease, Lease)
    assert admin.row(video_id)["lease_token"] == str(lease.token) == str(token)
    assert (lease.epoch, len(admin.attempts(video_id))) == (1, 1)


@pytest.mark.parametrize(("fault", "found"), [("swallow", True), ("drop", False)])
def test_f11_claim_next_never_takes_a_second_video_under_the_same_token(shaky, proxy, admin, fault, found) -> None:
    for name in ("a", "b"):
        shaky.submit(name, 1)
    token = uuid.uuid4()
    getattr(proxy, fault)("claim_next")
    lease = shaky.claim_next(WORKER, token)
    assert proxy.acted
    assert (lease is not None) is found
    assert len(admin("SELECT id FROM video WHERE status = 'PROCESSING'")) == found
    assert lease is None or lease.token == token


@pytest.mark.parametrize("fault", ["swallow", "drop"])
@pytest.mark.parametrize(
    ("statement", "write", "expected", "outcome"),
    [
        (
            "complete",
            lambda leases, lease: leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={}),
            None,
            "ready",
        ),
        (
            "fail",
            lambda leases, lease: leases.fail(lease, Decision("encode_failed", "why", 30.0), receipt={}),
            Status.UPLOADED,
            "retried",
        ),
        (
            "fail",
            lambda leases, lease: leases.fail(lease, Decision("corrupt", "why", None), receipt={}),
            Status.FAILED,
            "failed",
        ),
        (
            "release",
            lambda leases, lease: leases.release(lease, reason="drain", receipt={}),
            Status.UPLOADED,
            "released",
        ),
        ("abandon", lambda leases, lease: leases.abandon(lease.token).status, Status.UPLOADED, "abandoned"),
    ],
)
def test_f12_an_uncertain_end_is_decided_by_the_attempt_and_counted_once(
    shaky, lease, proxy, admin, fault, statement, write, expected, outcome
) -> None:
    getattr(proxy, fault)(statement)
    assert write(shaky, lease) == expected
    assert proxy.acted
    (attempt,) = admin.attempts(lease.video_id)
    assert attempt["outcome"] == outcome
    row = admin.row(lease.video_id)
    assert row["failure_count"] == (outcome == "retried")
    assert row["loss_count"] == (outcome == "abandoned")


def test_f12_an_uncertain_complete_after_a_reclaim_is_lost(shaky, lease, proxy, admin) -> None:
    assert make_leases(shaky._database).try_reclaim_video(lease.video_id, force=True)
    proxy.swallow("complete")
    with pytest.raises(LeaseLost):
        shaky.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    assert admin.row(lease.video_id)["status"] == "UPLOADED"


def test_f12_while_the_database_is_gone_the_end_stays_open_and_may_be_repeated(postgres, plain, admin) -> None:
    leases = make_leases(plain)
    lease = claimed(leases, leases.submit("a.mp4", 1))
    admin.connection.close()
    postgres.stop()
    with pytest.raises(Unavailable):
        leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    postgres.start()
    leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    assert plain.run("attempts", video_id=lease.video_id)[0]["outcome"] == "ready"


def test_a_renewal_whose_answer_was_lost_says_so_and_may_be_repeated(shaky, lease, proxy) -> None:
    proxy.swallow("renew")
    with pytest.raises(Unavailable):
        shaky.renew(lease)
    assert shaky.renew(lease) is False


def test_answered_seconds_ago_is_monotonic(plain, monkeypatch) -> None:
    plain.ping()
    later = time.monotonic() + 100
    monkeypatch.setattr(connection_module.time, "monotonic", lambda: later)
    assert plain.answered_seconds_ago() > 90
