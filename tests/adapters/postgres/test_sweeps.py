"""What reconcile reads and writes."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from appliance.adapters.postgres.sweeps import Held, Reclaimed, Ring, Sweeps
from appliance.domain.errors import Unavailable
from appliance.domain.video import Status
from tests.adapters.postgres.stage import CLOCK_PATH, LEASE_SECONDS, MAX_LOSSES, WORKER, claimed

TTL = 60.0


@pytest.fixture
def lease(leases):
    return claimed(leases, leases.submit("a.mp4", 3))


def page(sweeps: Sweeps) -> list[Held]:
    return sweeps.processing_page(0, 100)


# -- the tick


def test_one_host_wins_the_tick_and_the_next_one_comes_when_it_is_due(sweeps, clock) -> None:
    first = sweeps.win_tick("host-a", 15)
    assert (first.won, first.since_last_seconds) == (True, None)
    clock.advance(14)
    assert sweeps.win_tick("host-b", 15).won is False
    clock.advance(1)
    second = sweeps.win_tick("host-b", 15)
    assert (second.won, second.since_last_seconds) == (True, 15.0)


def test_of_ten_hosts_at_once_one_wins(open_database, clock) -> None:
    def tick(number: int) -> bool:
        return Sweeps(open_database(search_path=CLOCK_PATH), max_losses=3).win_tick(str(number), 15).won

    with ThreadPoolExecutor(10) as threads:
        assert sum(threads.map(tick, range(10))) == 1


def test_f24_the_tick_tells_for_how_long_the_server_has_been_up(postgres, open_database) -> None:
    postgres.restart()
    tick = Sweeps(open_database(), max_losses=3).win_tick("host-a", 15)
    assert 0 <= tick.server_up_seconds < 60


def test_a_missing_tick_says_what_to_run(admin, sweeps) -> None:
    admin("DELETE FROM reconcile_tick")
    with pytest.raises(Unavailable, match="tick") as caught:
        sweeps.win_tick("host-a", 15)
    admin("INSERT INTO reconcile_tick (video_table) VALUES ('video')")
    assert "migrate" in caught.value.hint


# -- reclaim by lease


def test_an_expired_lease_is_reclaimed_and_told_with_its_former_owner(leases, sweeps, admin, clock, lease) -> None:
    clock.advance(LEASE_SECONDS)
    assert sweeps.reclaim_expired(10) == []
    clock.advance(1)
    until = admin.row(lease.video_id)["leased_until"]
    assert [held.video_id for held in sweeps.expired(10)] == [lease.video_id]
    assert sweeps.reclaim_expired(10) == [
        Reclaimed(lease.video_id, 3, "a.mp4", WORKER.name, until, Status.UPLOADED, lease.token)
    ]
    row = admin.row(lease.video_id)
    assert (row["status"], row["loss_count"], row["lease_token"]) == ("UPLOADED", 1, None)
    (attempt,) = admin.attempts(lease.video_id)
    assert (attempt["outcome"], attempt["error_reason"]) == ("reclaimed", "its lease expired")
    assert sweeps.reclaim_expired(10) == []


def test_f07_a_reclaimed_row_that_nobody_rang_is_rung_by_the_sweep(sweeps, clock, lease) -> None:
    """Somebody reclaimed and crashed before the ring."""
    clock.advance(LEASE_SECONDS + 1)
    sweeps.reclaim_expired(10)
    assert sweeps.due_rings(10, 60) == [Ring(lease.video_id, 3, "a.mp4", 1)]


def test_f20_a_row_without_a_lease_is_expired_and_belongs_to_nobody_of_ours(admin, sweeps) -> None:
    (row,) = admin("INSERT INTO video (file_key, status) VALUES ('a.mp4', 'PROCESSING') RETURNING id")
    (held,) = sweeps.expired(10)
    assert (held.video_id, held.token, held.renewed_seconds_ago, held.lease_expired) == (row["id"], None, None, True)
    (reclaimed,) = sweeps.reclaim_expired(10)
    assert (reclaimed.video_id, reclaimed.token, reclaimed.status) == (row["id"], None, Status.UPLOADED)


def test_a_reclaim_takes_no_more_than_asked_and_waits_for_nobody(dsn, leases, sweeps, admin, clock) -> None:
    ids = [claimed(leases, leases.submit("a.mp4", 3)).video_id for _ in range(3)]
    clock.advance(LEASE_SECONDS + 1)
    admin("BEGIN")
    admin("SELECT id FROM video WHERE id = %s FOR NO KEY UPDATE", ids[0])
    assert [row.video_id for row in sweeps.reclaim_expired(1)] == [ids[1]]
    admin("COMMIT")
    assert [row.video_id for row in sweeps.reclaim_expired(10)] == [ids[0], ids[2]]


def test_f15_ten_reconcilers_at_once_reclaim_each_row_once(open_database, leases, admin, clock) -> None:
    ids = [claimed(leases, leases.submit("a.mp4", 3)).video_id for _ in range(30)]
    clock.advance(LEASE_SECONDS + 1)

    def reconcile(_: int) -> list[int]:
        own = Sweeps(open_database(search_path=CLOCK_PATH), max_losses=MAX_LOSSES)
        taken = [row.video_id for row in own.reclaim_expired(7)]
        held = own.processing_page(0, 100)
        return taken + [row.video_id for row in own.reclaim_silent(held, TTL)]

    with ThreadPoolExecutor(10) as threads:
        taken = [video_id for found in threads.map(reconcile, range(10)) for video_id in found]
    assert sorted(taken) == sorted(ids)
    assert {row["loss_count"] for row in admin("SELECT loss_count FROM video")} == {1}


def test_f32_the_last_loss_is_told_as_failed(leases, sweeps, admin, clock, lease) -> None:
    admin("UPDATE video SET loss_count = %s", MAX_LOSSES - 1)
    clock.advance(LEASE_SECONDS + 1)
    (reclaimed,) = sweeps.reclaim_expired(10)
    assert reclaimed.status is Status.FAILED
    assert admin.row(lease.video_id)["error_code"] == "crashed_encoder"


# -- reclaim by heartbeat


def test_a_page_goes_by_id_and_says_how_long_ago_each_was_renewed(leases, sweeps, clock) -> None:
    ids = [claimed(leases, leases.submit("a.mp4", 3)).video_id for _ in range(3)]
    leases.submit("waiting.mp4", 3)
    clock.advance(25)
    first = sweeps.processing_page(0, 2)
    assert [row.video_id for row in first] == ids[:2]
    assert {(row.renewed_seconds_ago, row.lease_expired) for row in first} == {(25.0, False)}
    assert [row.video_id for row in sweeps.processing_page(ids[1], 2)] == ids[2:]
    assert sweeps.processing_page(ids[2], 2) == []


def test_a_silent_owner_is_reclaimed_before_its_lease_ends(sweeps, admin, clock, lease) -> None:
    clock.advance(TTL + 1)
    (reclaimed,) = sweeps.reclaim_silent(page(sweeps), TTL)
    assert (reclaimed.video_id, reclaimed.token) == (lease.video_id, lease.token)
    assert admin.attempts(lease.video_id)[0]["error_reason"] == "its heartbeat is missing"


def test_f22_the_witness_keeps_an_owner_that_renews(leases, sweeps, clock, lease) -> None:
    clock.advance(TTL + 1)
    held = page(sweeps)
    leases.renew(lease)
    assert sweeps.reclaim_silent(held, TTL) == []
    assert [row.video_id for row in sweeps.reclaim_silent(held, None)] == [lease.video_id]  # strict


def test_f14_a_row_that_completes_in_between_stays_ready(leases, sweeps, admin, clock, lease) -> None:
    clock.advance(LEASE_SECONDS + 1)
    held = page(sweeps)
    leases.complete(lease, hls_path="x", duration_seconds=1.0, receipt={})
    assert sweeps.reclaim_silent(held, None) == []
    assert sweeps.reclaim_expired(10) == []
    assert admin.row(lease.video_id)["status"] == "READY"


def test_f16_a_row_that_changed_hands_in_between_is_not_touched(leases, sweeps, clock, lease) -> None:
    clock.advance(TTL + 1)
    held = page(sweeps)
    leases.abandon(lease.token)
    again = claimed(leases, lease.video_id)
    clock.advance(TTL + 1)
    assert sweeps.reclaim_silent(held, TTL) == []
    assert leases.renew(again) is False


def test_a_row_that_is_not_ours_is_reclaimed_while_its_owner_says_nothing(admin, sweeps) -> None:
    """NULL renewed_at: an absent key is enough, whatever the lease says."""
    admin(
        "INSERT INTO video (file_key, tenant_id, status, leased_by, leased_until)"
        " VALUES ('a.mp4', 3, 'PROCESSING', 'old-worker', clock.now() + interval '1 day')"
    )
    held = page(sweeps)
    assert (held[0].renewed_seconds_ago, held[0].lease_expired) == (None, False)
    moved = [replace(held[0], leased_until=None)]
    assert sweeps.reclaim_silent(moved, TTL) == []  # its owner has written since it was read
    (reclaimed,) = sweeps.reclaim_silent(held, TTL)
    assert (reclaimed.prev_leased_by, reclaimed.token) == ("old-worker", None)


def test_f20_a_row_without_any_lease_can_be_reclaimed_by_its_missing_key(admin, sweeps) -> None:
    admin("INSERT INTO video (file_key, tenant_id, status) VALUES ('a.mp4', 3, 'PROCESSING')")
    assert len(sweeps.reclaim_silent(page(sweeps), TTL)) == 1
    assert sweeps.reclaim_silent([], TTL) == []


def test_a_cancelled_video_whose_owner_is_gone_ends(leases, sweeps, admin, clock, lease) -> None:
    leases.cancel(lease.video_id)
    clock.advance(LEASE_SECONDS + 1)
    assert sweeps.reclaim_expired(10)[0].status is Status.FAILED
    assert admin.row(lease.video_id)["error_code"] == "cancelled"


# -- the sweep


def test_f01_a_row_that_nobody_rang_is_due_now(admin, sweeps) -> None:
    (row,) = admin("INSERT INTO video (file_key, status) VALUES ('a.mp4', 'UPLOADED') RETURNING id")
    assert sweeps.due_rings(10, 60) == [Ring(row["id"], None, "a.mp4", 1)]
    assert sweeps.due_rings(10, 60) == []


def test_rings_come_after_1_2_4_and_at_most_60_minutes(leases, sweeps, clock) -> None:
    leases.submit("a.mp4", 3)
    minutes, rung = 0, []
    while minutes < 400:
        rung += [minutes] * len(sweeps.due_rings(10, 60))
        clock.advance(60)
        minutes += 1
    assert rung == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]


def test_f08_a_deep_backlog_is_rung_a_bounded_number_of_times(leases, sweeps, admin, clock) -> None:
    """≤ claims + 6 + age ÷ 60 min for each row, and never more than asked at once."""
    for number in range(20):
        leases.submit(f"{number}.mp4", 3)
    sent = dict.fromkeys((row["id"] for row in admin("SELECT id FROM video")), 0)
    for _ in range(4 * 60):  # an hour of 15 s ticks
        rings = sweeps.due_rings(7, 60)
        assert len(rings) <= 7
        for ring in rings:
            sent[ring.video_id] += 1
        clock.advance(15)
    assert max(sent.values()) <= 6 + 1
    assert min(sent.values()) >= 5


def test_f08_the_count_of_an_old_row_does_not_overflow(admin, sweeps) -> None:
    admin("INSERT INTO video (file_key, status, ring_count) VALUES ('a.mp4', 'UPLOADED', 100000)")
    assert sweeps.due_rings(10, 60)[0].ring_count == 100001


def test_a_retry_is_rung_when_it_is_due_and_not_before(leases, sweeps, clock, lease) -> None:
    leases.release(lease, run_after_seconds=300, reason="too big", receipt={})
    clock.advance(299)
    assert sweeps.due_rings(10, 60) == []
    clock.advance(1)
    assert [ring.ring_count for ring in sweeps.due_rings(10, 60)] == [1]


def test_a_ring_that_was_not_sent_is_due_again_and_not_counted(leases, sweeps, admin) -> None:
    ids = [leases.submit("a.mp4", 3), leases.submit("b.mp4", 3)]
    sweeps.due_rings(10, 60)
    sweeps.ring_failed([ids[1]])
    sweeps.ring_failed([])
    assert sweeps.due_rings(10, 60) == [Ring(ids[1], 3, "b.mp4", 1)]


def test_ten_sweeps_at_once_ring_each_row_once(open_database, leases) -> None:
    ids = [leases.submit("a.mp4", 3) for _ in range(30)]

    def sweep(_: int) -> list[int]:
        own = Sweeps(open_database(search_path=CLOCK_PATH), max_losses=MAX_LOSSES)
        return [ring.video_id for ring in own.due_rings(100, 60)]

    with ThreadPoolExecutor(10) as threads:
        rung = [video_id for found in threads.map(sweep, range(10)) for video_id in found]
    assert sorted(rung) == ids


def test_nothing_but_due_uploaded_rows_is_rung(leases, sweeps, admin, lease) -> None:
    for status in ("PENDING", "READY", "FAILED"):
        admin("INSERT INTO video (file_key, status) VALUES ('a.mp4', %s)", status)
    assert sweeps.due_rings(10, 60) == []
    assert leases.claim_next(WORKER, uuid.uuid4()) is None


def test_a_row_that_the_platform_put_off_is_not_rung_although_nobody_set_its_ring(admin, sweeps) -> None:
    admin(
        "INSERT INTO video (file_key, status, run_after) VALUES ('a.mp4', 'UPLOADED', clock.now() + interval '1 min')"
    )
    assert sweeps.due_rings(10, 60) == []


def test_a_ring_that_failed_is_nothing_to_a_row_that_was_claimed_meanwhile(leases, sweeps, admin) -> None:
    video_id = leases.submit("a.mp4", 3)
    sweeps.due_rings(10, 60)
    claimed(leases, video_id)
    before = admin.row(video_id)
    sweeps.ring_failed([video_id])
    assert admin.row(video_id) == before
