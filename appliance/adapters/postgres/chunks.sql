-- Who encodes which chunk of the current plan. A chunk's lease is its own: renew, done and release carry the chunk's
-- token and the plan, never the owner's token, so that assistants survive a change of owner (F51).
-- Only a RUNNING chunk has a leased_until (the table's CHECK), and a TODO one is never `assisted`.
-- Statements and fragments as in leases.sql.

-- name: known_plan
-- Looked up before `adopt`: the recipe names the source's bytes and the meaning of a plan, so whoever made it does not
-- matter.
SELECT plan FROM {plan} WHERE video_id = %(video_id)s AND plan ->> 'recipe' = %(recipe)s;

-- name: adopt
WITH
-- Only the owner decides by which plan its video is encoded.
held AS (
    UPDATE {video}
    SET plan = %(plan)s
    WHERE id = %(video_id)s AND status = 'PROCESSING' AND lease_token = %(token)s
    RETURNING id
),
-- A plan that is there already is the same plan: the fingerprint says so. Only what it was made from may be another.
written AS (
    INSERT INTO {plan} (video_id, fingerprint, build, plan, created_at)
    SELECT id, %(plan)s, %(build)s, %(body)s::jsonb, now() FROM held
    ON CONFLICT (video_id, fingerprint) DO UPDATE SET plan = excluded.plan
),
-- So its chunks are there already as well, and those that are DONE stay so: this is how an encode resumes.
cut AS (
    INSERT INTO {chunk} (video_id, plan, number)
    SELECT id, %(plan)s, number FROM held, unnest(%(numbers)s::integer[]) AS number
    ON CONFLICT DO NOTHING
)
SELECT id AS video_id FROM held;

-- name: claim_chunk
WITH
-- The lowest free one. An earlier owner's are taken at once, its assistants' are not. One that bears this token was
-- taken by the same call, whose answer was lost. Our own that ran late while the database was away are in our hands (F24).
-- The video's row is read, not locked: an owner that is just losing it takes a chunk that its successor takes back.
free AS (
    SELECT c.video_id, c.plan, c.number, v.lease_epoch, c.assisted AS assistant_lost
    FROM {video} AS v
    JOIN {chunk} AS c ON c.video_id = v.id AND c.plan = v.plan
    WHERE v.id = %(video_id)s AND v.status = 'PROCESSING' AND v.lease_token = %(owner_token)s
      AND (c.state = 'TODO'
           OR c.assisted AND c.leased_until < now()
           OR c.state = 'RUNNING' AND NOT c.assisted AND c.epoch < v.lease_epoch
           OR c.state = 'RUNNING' AND c.token = %(token)s)
    ORDER BY c.token IS NOT DISTINCT FROM %(token)s::uuid DESC, c.number
    LIMIT 1
    FOR NO KEY UPDATE OF c SKIP LOCKED
),
{take_chunk};

-- name: claim_assist
WITH
-- A chunk of a video that somebody else owns, unless a video waits for an encoder of its own.
free AS (
    SELECT c.video_id, c.plan, c.number, v.lease_epoch, c.assisted AS assistant_lost
    FROM {helpable}
      AND NOT EXISTS (
          SELECT FROM {video} AS waiting
          WHERE waiting.status = 'UPLOADED' AND coalesce(waiting.run_after, '-infinity') <= now()
      )
    ORDER BY v.priority DESC, v.leased_at, v.id, c.number
    LIMIT 1
    FOR NO KEY UPDATE OF c SKIP LOCKED
),
{take_chunk};

-- fragment: helpable
-- Same ffmpeg and same meaning of the plan, not cancelled, and free: what an owner has begun ends with its own lease. A
-- chunk that two assistants did not survive, or could not encode, is left to the owner, so that max_losses or
-- max_attempts ends it (F54).
{video} AS v
    JOIN {plan} AS p ON p.video_id = v.id AND p.fingerprint = v.plan AND p.build = %(build)s
        AND p.plan -> 'revision' = to_jsonb(%(revision)s::integer)
    JOIN {chunk} AS c ON c.video_id = v.id AND c.plan = v.plan
    WHERE v.status = 'PROCESSING' AND v.cancel_requested_at IS NULL
      AND (c.state = 'TODO' OR c.assisted AND c.leased_until < now())
      AND c.assistant_losses + c.assisted::integer < %(max_assistants)s

-- name: help_wanted
-- Whether it is worth looking again soon: a chunk is free, or somebody is about to write the plan that frees some.
SELECT EXISTS (SELECT FROM {helpable})
    OR EXISTS (
        SELECT FROM {video} AS v
        WHERE v.status = 'PROCESSING' AND v.cancel_requested_at IS NULL
          AND NOT EXISTS (SELECT FROM {plan} AS p WHERE p.video_id = v.id AND p.fingerprint = v.plan)
    ) AS wanted;

-- fragment: take_chunk
-- A chunk that is taken from an assistant has outlived it.
taken AS (
    UPDATE {chunk} AS c
    SET state = 'RUNNING',
        token = %(token)s::uuid,
        epoch = free.lease_epoch,
        worker = %(worker)s,
        assisted = %(assisted)s,
        leased_until = now() + make_interval(secs => %(chunk_lease_seconds)s),
        attempts = c.attempts + 1,
        assistant_losses = c.assistant_losses + free.assistant_lost::integer,
        started_at = now()
    FROM free
    WHERE c.video_id = free.video_id AND c.plan = free.plan AND c.number = free.number
    RETURNING c.video_id, c.plan, c.number, c.attempts, c.epoch
)
SELECT * FROM taken

-- fragment: mine
-- READY, FAILED, a cancel or a new plan ends it. A cancelled owner is stopped by its own lease, with the right reason.
c.video_id = %(video_id)s AND c.plan = %(plan)s AND c.number = %(number)s
    AND c.state = 'RUNNING' AND c.token = %(token)s
    AND EXISTS (
        SELECT FROM {video} AS v
        WHERE v.id = c.video_id AND v.plan = c.plan AND v.status IN ('UPLOADED', 'PROCESSING')
          AND (v.cancel_requested_at IS NULL OR NOT c.assisted)
    )

-- name: renew_chunk
UPDATE {chunk} AS c
SET leased_until = now() + make_interval(secs => %(chunk_lease_seconds)s)
WHERE {mine}
RETURNING c.number;

-- name: done
WITH
-- The segments lie in S3 already: this row is what names them.
finished AS (
    UPDATE {chunk} AS c
    SET state = 'DONE', objects = %(objects)s::jsonb, done_at = now(), leased_until = NULL
    WHERE {mine}
    RETURNING c.video_id, c.number
),
-- Progress: whatever killed the owners before is behind us. Mostly there is nothing to reset, and no row is written.
recovered AS (
    UPDATE {video} AS v
    SET loss_count = 0
    FROM finished
    WHERE v.id = finished.video_id AND v.loss_count > 0
)
SELECT number FROM finished;

-- name: chunk
-- Whether a `done` that changed no row had worked before (F12).
SELECT state, token FROM {chunk} WHERE video_id = %(video_id)s AND plan = %(plan)s AND number = %(number)s;

-- name: release_chunk
-- What failed in an assistant's hands counts as a lost assistant: the owner's failure is the video's, and ends.
UPDATE {chunk}
SET state = 'TODO', token = NULL, leased_until = NULL, assisted = false,
    assistant_losses = assistant_losses + (assisted AND %(failed)s)::integer
WHERE video_id = %(video_id)s AND plan = %(plan)s AND number = %(number)s AND state = 'RUNNING' AND token = %(token)s
RETURNING number;

-- name: abandon_chunk
-- By the token alone. For a dead child: an assistant that died counts against the chunk; and for a claim without answer.
UPDATE {chunk}
SET state = 'TODO', token = NULL, leased_until = NULL, assisted = false,
    assistant_losses = assistant_losses + (assisted AND %(died)s)::integer
WHERE state = 'RUNNING' AND token = %(token)s
RETURNING number;

-- name: redo
WITH
-- The lock keeps the video ours until the chunk is written: only an owner may throw finished work away.
held AS (
    SELECT id, plan FROM {video}
    WHERE id = %(video_id)s AND status = 'PROCESSING' AND lease_token = %(owner_token)s
    FOR NO KEY UPDATE
),
-- Nothing to do when it is not DONE any more: then the same call had worked before.
undone AS (
    UPDATE {chunk} AS c
    SET state = 'TODO', token = NULL, objects = NULL, done_at = NULL, assisted = false
    FROM held
    WHERE c.video_id = held.id AND c.plan = held.plan AND c.number = %(number)s AND c.state = 'DONE'
)
SELECT id AS video_id FROM held;

-- name: done_chunks
-- Without the objects, which are long, for whoever only counts.
SELECT number, token, epoch, assisted, CASE WHEN %(whole)s THEN objects ELSE '{{}}' END AS objects
FROM {chunk}
WHERE video_id = %(video_id)s AND plan = %(plan)s AND state = 'DONE'
ORDER BY number;

-- name: plan
SELECT p.plan, v.tenant_id, v.file_key
FROM {plan} AS p
JOIN {video} AS v ON v.id = p.video_id
WHERE p.video_id = %(video_id)s AND p.fingerprint = %(plan)s;
