-- Who owns a video: everything that takes, keeps or ends a lease. Each statement is one transaction.
--
-- A statement has a `-- name:` and an `-- edge:` for each transition it may make (tests/adapters/postgres/test_edges.py).
-- A `-- fragment:` is text that several statements share: its name in braces stands for it.
-- now() is unqualified and the only clock. Row locks are FOR NO KEY UPDATE, so that foreign keys of the platform,
-- which take KEY SHARE, do not make a free row look taken.

-- name: claim
-- edge: UPLOADED -> PROCESSING
WITH
-- The row, if it is due; one that somebody is changing is skipped, so that a hundred duplicates do not queue for it.
-- A token claims once: asked again after an outage, the first claim may have been reclaimed meanwhile (F11).
due AS (
    SELECT id, coalesce(run_after, updated_at, created_at) AS due_at
    FROM {video}
    WHERE id = %(video_id)s
      AND status = 'UPLOADED'
      AND coalesce(run_after, '-infinity') <= now()
      AND NOT EXISTS (SELECT FROM {attempt} WHERE token = %(token)s)
    FOR NO KEY UPDATE SKIP LOCKED
),
{take};

-- name: claim_next
-- edge: UPLOADED -> PROCESSING
WITH
-- The first due row that nobody else is taking; each expression is that of the index, so that it is read in order.
due AS (
    SELECT id, coalesce(run_after, updated_at, created_at) AS due_at
    FROM {video}
    WHERE status = 'UPLOADED'
      AND coalesce(run_after, '-infinity') <= now()
    ORDER BY priority DESC, coalesce(run_after, '-infinity'), id
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
),
{take};

-- fragment: take
-- The lease: a cancel that was meant for an earlier run ends here (F21), a tenant the platform does not store is stored.
taken AS (
    UPDATE {video} AS v
    SET status = 'PROCESSING',
        tenant_id = coalesce(v.tenant_id, %(tenant_id)s),
        leased_by = %(leased_by)s,
        leased_until = now() + make_interval(secs => %(lease_seconds)s),
        lease_token = %(token)s::uuid,
        lease_epoch = v.lease_epoch + 1,
        leased_at = now(),
        renewed_at = now(),
        cancel_requested_at = NULL,
        updated_at = now()
    FROM due
    WHERE v.id = due.id
    RETURNING v.id, v.tenant_id, v.file_key, v.lease_epoch, v.failure_count, v.loss_count, v.finished_epoch, due.due_at
),
-- An attempt that is still open was ended by a write that is not ours: the platform moved the row by hand.
superseded AS (
    UPDATE {attempt} AS a
    SET ended_at = now(), outcome = 'superseded'
    FROM taken
    WHERE a.video_id = taken.id AND a.ended_at IS NULL
),
-- The history begins with the claim, so an attempt that left no trace but this row still counts.
opened AS (
    INSERT INTO {attempt} (token, video_id, epoch, host, worker, started_at)
    SELECT %(token)s::uuid, id, lease_epoch, %(host)s, %(worker)s, now()
    FROM taken
)
SELECT id AS video_id, tenant_id, file_key, lease_epoch AS epoch, failure_count, loss_count, finished_epoch,
       greatest(0, extract(epoch FROM now() - due_at))::float8 AS waited_seconds
FROM taken

-- name: look
WITH
-- A bare locking read: SHARE waits for no other look, but for whoever is changing the row, whatever status is visible.
free AS (
    SELECT id FROM {video} WHERE id = %(video_id)s FOR SHARE SKIP LOCKED
)
SELECT v.id AS video_id, v.tenant_id, v.file_key, v.lease_epoch AS epoch, v.failure_count, v.loss_count,
       v.finished_epoch, 0::float8 AS waited_seconds,
       v.status,
       v.id NOT IN (SELECT id FROM free) AS locked,
       coalesce(v.run_after, '-infinity') <= now() AS due,
       v.status = 'PROCESSING' AND v.lease_token IS NOT DISTINCT FROM %(token)s::uuid AS mine
FROM {video} AS v
WHERE v.id = %(video_id)s;

-- name: find_own
-- What claim_next had taken when its answer was lost: the token names the row.
SELECT v.id AS video_id, v.tenant_id, v.file_key, v.lease_epoch AS epoch, v.failure_count, v.loss_count,
       v.finished_epoch, 0::float8 AS waited_seconds
FROM {attempt} AS a
JOIN {video} AS v ON v.id = a.video_id
WHERE a.token = %(token)s AND v.status = 'PROCESSING' AND v.lease_token = a.token;

-- name: renew
-- Without `leased_until > now()`: a late renewal is safe as long as nobody reclaimed, and saves a whole fleet after a
-- database outage (F24). updated_at stays: renewals touch no index (HOT).
UPDATE {video}
SET leased_until = now() + make_interval(secs => %(lease_seconds)s),
    renewed_at = now()
WHERE id = %(video_id)s AND status = 'PROCESSING' AND lease_token = %(token)s
RETURNING cancel_requested_at IS NOT NULL AS cancel_requested;

-- name: complete
-- edge: PROCESSING -> READY
WITH
-- What publishes the stream. Whoever re-submits writes the status and nothing else, so everything is reset here.
finished AS (
    UPDATE {video}
    SET status = 'READY',
        hls_path = %(hls_path)s,
        duration = %(duration_seconds)s,
        finished_token = lease_token,
        finished_epoch = lease_epoch,
        ready_at = now(),
        run_after = NULL, next_ring_at = NULL, ring_count = 0,
        failure_count = 0, loss_count = 0,
        cancel_requested_at = NULL,
        error_code = NULL, error_reason = '',
        leased_by = '', leased_until = NULL, lease_token = NULL, leased_at = NULL, renewed_at = NULL,
        updated_at = now()
    WHERE id = %(video_id)s AND status = 'PROCESSING' AND lease_token = %(token)s
    RETURNING id
),
-- The attempt says for ever that it was this one, also to an owner whose answer was lost (F12).
closed AS (
    UPDATE {attempt} AS a
    SET ended_at = now(), outcome = 'ready', receipt = %(receipt)s::jsonb
    FROM finished
    WHERE a.token = %(token)s
)
SELECT id AS video_id FROM finished;

-- name: fail
-- edge: PROCESSING -> UPLOADED
-- edge: PROCESSING -> FAILED
WITH
-- Waits for the lock: the owner must not lose its verdict to somebody who is only looking. A cancel mark ends the retries.
held AS (
    SELECT id, lease_token AS token, tenant_id, file_key, leased_by, leased_until,
           cancel_requested_at IS NOT NULL OR %(retry_in_seconds)s::float8 IS NULL AS final,
           coalesce(%(retry_in_seconds)s::float8, 0) AS wait_seconds,
           failure_count + 1 AS failures,
           loss_count AS losses,
           CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE %(error_code)s END AS error_code,
           CASE WHEN cancel_requested_at IS NOT NULL THEN %(cancelled_reason)s ELSE %(error_reason)s END AS error_reason,
           CASE WHEN cancel_requested_at IS NOT NULL OR %(error_code)s = 'cancelled' THEN 'cancelled'
                WHEN %(retry_in_seconds)s::float8 IS NULL THEN 'failed'
                ELSE 'retried' END AS outcome,
           NULL AS note
    FROM {video}
    WHERE id = %(video_id)s AND status = 'PROCESSING' AND lease_token = %(token)s
    FOR NO KEY UPDATE
),
{end_lease};

-- name: release
-- edge: PROCESSING -> UPLOADED
-- edge: PROCESSING -> FAILED
WITH
-- A drain, a spot notice, a host too small: charged to nothing. Only a cancelled video does not go back.
held AS (
    SELECT id, lease_token AS token, tenant_id, file_key, leased_by, leased_until,
           cancel_requested_at IS NOT NULL AS final,
           %(run_after_seconds)s::float8 AS wait_seconds,
           failure_count AS failures,
           loss_count AS losses,
           CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' END AS error_code,
           CASE WHEN cancel_requested_at IS NOT NULL THEN %(cancelled_reason)s END AS error_reason,
           CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE 'released' END AS outcome,
           %(reason)s AS note
    FROM {video}
    WHERE id = %(video_id)s AND status = 'PROCESSING' AND lease_token = %(token)s
    FOR NO KEY UPDATE
),
{end_lease};

-- name: abandon
-- edge: PROCESSING -> UPLOADED
-- edge: PROCESSING -> FAILED
WITH
-- The supervisor knows its dead child's token and nothing else; the attempt, found by its key, names the row.
lost AS (
    SELECT {lease_columns}, 'abandoned' AS outcome, 'its encoder died' AS note
    FROM {video} AS v
    WHERE v.id = (SELECT video_id FROM {attempt} WHERE token = %(token)s)
      AND v.status = 'PROCESSING' AND v.lease_token = %(token)s
    FOR NO KEY UPDATE
),
{held_by_the_dead},
{end_lease};

-- name: try_reclaim
-- edge: PROCESSING -> UPLOADED
-- edge: PROCESSING -> FAILED
WITH
-- The seed's verb: an expired lease, or any when forced; waits for the lock, because one row was asked for by name.
lost AS (
    SELECT {lease_columns}, 'reclaimed' AS outcome, 'reclaimed by hand' AS note
    FROM {video} AS v
    WHERE v.id = %(video_id)s AND v.status = 'PROCESSING'
      AND (v.leased_until IS NULL OR v.leased_until < now() OR %(force)s)
    FOR NO KEY UPDATE
),
{held_by_the_dead},
{end_lease};

-- fragment: lease_columns
v.id, v.tenant_id, v.file_key, v.lease_token, v.leased_by, v.leased_until, v.failure_count, v.loss_count,
           v.cancel_requested_at

-- fragment: held_by_the_dead
-- Nobody can say why the owner is gone; a video that loses its owners again and again kills them, and stops (F32).
held AS (
    SELECT id, lease_token AS token, tenant_id, file_key, leased_by, leased_until,
           cancel_requested_at IS NOT NULL OR loss_count + 1 >= %(max_losses)s AS final,
           0::float8 AS wait_seconds,
           failure_count AS failures,
           loss_count + 1 AS losses,
           CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                WHEN loss_count + 1 >= %(max_losses)s THEN 'crashed_encoder' END AS error_code,
           CASE WHEN cancel_requested_at IS NOT NULL THEN %(cancelled_reason)s
                WHEN loss_count + 1 >= %(max_losses)s THEN %(crashed_reason)s END AS error_reason,
           outcome,
           note
    FROM lost
)

-- fragment: end_lease
-- Back to the queue, rung when due (F07), or to FAILED with everything reset for whoever re-submits.
ended AS (
    UPDATE {video} AS v
    SET status = CASE WHEN held.final THEN 'FAILED' ELSE 'UPLOADED' END,
        run_after = CASE WHEN NOT held.final THEN now() + make_interval(secs => held.wait_seconds) END,
        next_ring_at = CASE WHEN NOT held.final THEN now() + make_interval(secs => held.wait_seconds) END,
        ring_count = 0,
        failure_count = CASE WHEN held.final THEN 0 ELSE held.failures END,
        loss_count = CASE WHEN held.final THEN 0 ELSE held.losses END,
        cancel_requested_at = NULL,
        error_code = held.error_code,
        error_reason = coalesce(held.error_reason, ''),
        leased_by = '', leased_until = NULL, lease_token = NULL, leased_at = NULL, renewed_at = NULL,
        updated_at = now()
    FROM held
    WHERE v.id = held.id
    RETURNING v.id AS video_id, held.tenant_id, held.file_key, held.token,
              held.leased_by AS prev_leased_by, held.leased_until AS prev_leased_until, v.status
),
-- The attempt is closed exactly once, in the statement that ended its lease.
closed AS (
    UPDATE {attempt} AS a
    SET ended_at = now(),
        outcome = held.outcome,
        error_code = held.error_code,
        error_reason = coalesce(held.error_reason, held.note),
        receipt = %(receipt)s::jsonb
    FROM held
    WHERE a.token = held.token
)
SELECT * FROM ended ORDER BY video_id

-- name: attempt
-- How an attempt ended decides for an owner whose write changed no row (F12): it may have been its own.
SELECT a.video_id, v.tenant_id, v.file_key, a.outcome, a.error_code
FROM {attempt} AS a
LEFT JOIN {video} AS v ON v.id = a.video_id
WHERE a.token = %(token)s AND a.ended_at IS NOT NULL;

-- name: cancel
-- edge: UPLOADED -> FAILED
WITH
-- One look under the lock, so that the two cases below exclude each other.
asked AS (
    SELECT id, status FROM {video} WHERE id = %(video_id)s FOR NO KEY UPDATE
),
-- Nobody works on it: it ends here.
ended AS (
    UPDATE {video} AS v
    SET status = 'FAILED',
        error_code = 'cancelled', error_reason = %(cancelled_reason)s,
        run_after = NULL, next_ring_at = NULL, ring_count = 0,
        failure_count = 0, loss_count = 0, cancel_requested_at = NULL,
        updated_at = now()
    FROM asked
    WHERE v.id = asked.id AND asked.status = 'UPLOADED'
),
-- Its owner reads the mark with the next renewal.
marked AS (
    UPDATE {video} AS v
    SET cancel_requested_at = coalesce(v.cancel_requested_at, now())
    FROM asked
    WHERE v.id = asked.id AND asked.status = 'PROCESSING'
)
SELECT status FROM asked;

-- name: resubmit
-- edge: FAILED -> UPLOADED
-- edge: READY -> UPLOADED
-- hls_path stays: students go on watching the old stream until the new one is complete (F55).
UPDATE {video}
SET status = 'UPLOADED',
    run_after = now(), next_ring_at = now(), ring_count = 0,
    failure_count = 0, loss_count = 0, cancel_requested_at = NULL,
    error_code = NULL, error_reason = '',
    updated_at = now()
WHERE id = %(video_id)s AND status IN ('FAILED', 'READY')
RETURNING id AS video_id;

-- name: hand_in
-- edge: PENDING -> UPLOADED
-- What the platform's own code writes after an upload, when a person does it instead.
UPDATE {video}
SET status = 'UPLOADED', run_after = now(), next_ring_at = now(), ring_count = 0, updated_at = now()
WHERE id = %(video_id)s AND status = 'PENDING'
RETURNING id AS video_id;

-- name: submit
-- edge: PENDING -> UPLOADED
-- A row of ours is born uploaded: its source lies in S3 before the row exists, so nobody ever sees it PENDING.
INSERT INTO {video} (tenant_id, file_key, priority, status, run_after, next_ring_at, created_at, updated_at)
VALUES (%(tenant_id)s, %(file_key)s, %(priority)s, 'UPLOADED', now(), now(), now(), now())
RETURNING id AS video_id;
