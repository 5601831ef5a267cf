-- Which media a row names still, and whose leftovers nobody has looked for. Statements and fragments as in leases.sql.

-- name: take_unswept
WITH
-- Noted before the work, so that a fleet shares it; what is taken and not finished is put back by `sweep_again`.
due AS (
    SELECT token FROM {attempt}
    WHERE swept_at IS NULL AND ended_at < now() - make_interval(secs => %(rest_seconds)s)
    ORDER BY ended_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {attempt} AS a
SET swept_at = now()
FROM due
WHERE a.token = due.token
RETURNING a.video_id;

-- name: sweep_again
UPDATE {attempt} SET swept_at = NULL
WHERE video_id = ANY (%(ids)s::bigint[]) AND swept_at IS NOT NULL;

-- name: forget_plans
-- A READY row's plan is the published one, unless a person wrote READY after a re-encode had failed: then its chunks are
-- younger than the stream. Every other plan is over: the next submission makes one of another generation.
DELETE FROM {plan} AS p
USING {video} AS v
WHERE v.id = %(video_id)s AND v.status = 'READY' AND p.video_id = v.id AND p.fingerprint <> v.plan
  AND NOT EXISTS (SELECT FROM {chunk} AS c WHERE c.video_id = v.id AND c.plan = v.plan AND c.epoch > v.finished_epoch);

-- name: named_media
-- No row: hands off. A later attempt's end asks again; a stream whose chunks the tables do not know whole is left alone,
-- and so is one that is watched while its re-encode failed.
SELECT v.finished_token,
       ARRAY (SELECT c.token::text FROM {chunk} AS c WHERE c.video_id = v.id AND c.token IS NOT NULL) AS chunk_tokens
FROM {video} AS v
WHERE v.id = %(video_id)s
  AND (v.status = 'READY' AND v.finished_token IS NOT NULL
           AND EXISTS (SELECT FROM {chunk} AS c WHERE c.video_id = v.id AND c.plan = v.plan)
           AND NOT EXISTS (SELECT FROM {chunk} AS c WHERE c.video_id = v.id AND c.plan = v.plan AND c.state <> 'DONE')
       OR v.status = 'FAILED' AND coalesce(v.hls_path, '') = '')
  AND NOT EXISTS (
      SELECT FROM {attempt} AS a
      WHERE a.video_id = v.id
        AND (a.ended_at IS NULL OR a.ended_at >= now() - make_interval(secs => %(rest_seconds)s))
  );
