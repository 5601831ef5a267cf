-- What reconcile reads and writes. Every write proves its own case, so ten reconcilers at once are harmless (F15).
-- Statements and fragments as in leases.sql.

-- name: win_tick
WITH
-- Whoever holds the row decides this tick; nobody waits for it.
last AS (
    SELECT video_table, ticked_at FROM {tick}
    WHERE video_table = %(table)s
    FOR NO KEY UPDATE SKIP LOCKED
),
-- One host a tick. The former stamp also tells after an outage for how long nobody ticked (F24).
won AS (
    UPDATE {tick} AS t
    SET ticked_at = now(), host = %(host)s
    FROM last
    WHERE t.video_table = last.video_table
      AND (last.ticked_at IS NULL OR last.ticked_at <= now() - make_interval(secs => %(tick_seconds)s))
    RETURNING t.video_table
)
SELECT EXISTS (SELECT FROM won) AS won,
       extract(epoch FROM now() - ticked_at)::float8 AS since_last_seconds,
       extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS server_up_seconds
FROM {tick}
WHERE video_table = %(table)s;

-- name: reclaim_expired
-- edge: PROCESSING -> UPLOADED
-- edge: PROCESSING -> FAILED
WITH
-- The lease ended, or never had an end (a platform's own row, F20). One that is locked is being written by its owner.
lost AS (
    SELECT {lease_columns}, 'reclaimed' AS outcome, 'its lease expired' AS note
    FROM {video} AS v
    WHERE v.status = 'PROCESSING' AND (v.leased_until IS NULL OR v.leased_until < now())
    ORDER BY v.id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
{held_by_the_dead},
{end_lease};

-- name: reclaim_silent
-- edge: PROCESSING -> UPLOADED
-- edge: PROCESSING -> FAILED
WITH
-- What was judged: these owners, as they were read a moment ago.
judged AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(tokens)s::uuid[], %(untils)s::timestamptz[]) AS j (id, token, leased_until)
),
-- Only if that owner still has it (a row without a token: still until the same time), and PostgreSQL as the witness has
-- not heard of it either. NULL renewed_at is not one of ours; a NULL witness is `strict`.
lost AS (
    SELECT {lease_columns}, 'reclaimed' AS outcome, 'its heartbeat is missing' AS note
    FROM {video} AS v
    JOIN judged ON judged.id = v.id
    WHERE v.status = 'PROCESSING'
      AND v.lease_token IS NOT DISTINCT FROM judged.token
      AND (v.lease_token IS NOT NULL OR v.leased_until IS NOT DISTINCT FROM judged.leased_until)
      AND (v.renewed_at IS NULL
           OR %(witness_seconds)s::float8 IS NULL
           OR v.renewed_at < now() - make_interval(secs => %(witness_seconds)s))
    ORDER BY v.id
    FOR NO KEY UPDATE OF v SKIP LOCKED
),
{held_by_the_dead},
{end_lease};

-- fragment: held_columns
v.id AS video_id, v.tenant_id, v.file_key, v.lease_token AS token, v.leased_by, v.leased_until,
       extract(epoch FROM now() - v.renewed_at)::float8 AS renewed_seconds_ago,
       v.leased_until IS NULL OR v.leased_until < now() AS lease_expired

-- name: expired
SELECT {held_columns}
FROM {video} AS v
WHERE v.status = 'PROCESSING' AND (v.leased_until IS NULL OR v.leased_until < now())
ORDER BY v.id
LIMIT %(limit)s;

-- name: processing_page
SELECT {held_columns}
FROM {video} AS v
WHERE v.status = 'PROCESSING' AND v.id > %(after_id)s
ORDER BY v.id
LIMIT %(limit)s;

-- name: due_rings
WITH
-- Due rows that nobody took although they were rung, or that nobody rang (F01, F07); NULL is due now.
quiet AS (
    SELECT id, ring_count FROM {video}
    WHERE status = 'UPLOADED'
      AND coalesce(next_ring_at, '-infinity') <= now()
      AND coalesce(run_after, '-infinity') <= now()
    ORDER BY coalesce(next_ring_at, '-infinity'), id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
-- Noted before it is sent, at twice the distance each time, an hour at most: a backlog never multiplies messages (F08).
-- The exponent is bounded because 2^n is not.
noted AS (
    UPDATE {video} AS v
    SET next_ring_at = now() + make_interval(
            secs => least(3600, %(first_ring_seconds)s * 2 ^ least(quiet.ring_count, 30))),
        ring_count = quiet.ring_count + 1
    FROM quiet
    WHERE v.id = quiet.id
    RETURNING v.id, v.tenant_id, v.file_key, v.ring_count
)
SELECT id AS video_id, tenant_id, file_key, ring_count FROM noted ORDER BY id;

-- name: ring_failed
-- Nobody heard it: due again, and not counted.
UPDATE {video}
SET next_ring_at = run_after, ring_count = greatest(0, ring_count - 1)
WHERE id = ANY(%(video_ids)s::bigint[]) AND status = 'UPLOADED'
RETURNING id AS video_id;
