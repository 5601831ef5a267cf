-- What people are shown. Nothing here decides anything.

-- name: backlog
-- Only what waits or runs: both come from partial indexes, however many videos are READY.
SELECT (SELECT count(*) FROM {video} WHERE status = 'UPLOADED') AS uploaded,
       (SELECT count(*) FROM {video} WHERE status = 'PROCESSING') AS processing,
       (SELECT count(*) FROM {chunk} WHERE state = 'RUNNING' AND assisted) AS assisting,
       (SELECT extract(epoch FROM now() - min(coalesce(run_after, updated_at, created_at)))::float8
        FROM {video}
        WHERE status = 'UPLOADED' AND coalesce(run_after, '-infinity') <= now()) AS oldest_due_seconds;

-- name: failures
-- Of whatever began in a day: there is no index on ended_at, and few encodes take longer.
SELECT count(*) AS failures
FROM {attempt}
WHERE started_at > now() - interval '1 day' AND outcome = 'failed'
  AND ended_at > now() - make_interval(secs => %(seconds)s);

-- name: video
SELECT id AS video_id, tenant_id, status, file_key, hls_path, duration, priority, run_after, next_ring_at, ring_count,
       leased_by, leased_until, leased_at, renewed_at, lease_token, lease_epoch, failure_count, loss_count,
       error_code, error_reason, cancel_requested_at, plan, finished_token, finished_epoch, ready_at,
       created_at, updated_at
FROM {video}
WHERE id = %(video_id)s;

-- name: attempts
SELECT epoch, token, host, worker, started_at, ended_at, outcome, error_code, error_reason, receipt
FROM {attempt}
WHERE video_id = %(video_id)s
ORDER BY epoch;

-- name: chunks_of
SELECT c.number, c.state, c.token, c.epoch, c.worker, c.assisted, c.attempts, c.assistant_losses,
       c.leased_until, c.started_at, c.done_at
FROM {video} AS v
JOIN {chunk} AS c ON c.video_id = v.id AND c.plan = v.plan
WHERE v.id = %(video_id)s
ORDER BY c.number;

-- name: recent
-- By attempt, because the platform's table has no index on time.
SELECT a.video_id, v.tenant_id, v.status, v.file_key, v.hls_path, v.duration, a.epoch, a.host, a.worker,
       a.started_at, a.ended_at, a.outcome, a.error_code, a.error_reason, a.receipt
FROM {attempt} AS a
LEFT JOIN {video} AS v ON v.id = a.video_id
ORDER BY a.started_at DESC
LIMIT %(limit)s;

-- name: newest
-- From the highest id down until there are enough; UPLOADED and PROCESSING have partial indexes, a rare status may cost
-- a walk over the whole primary key.
SELECT v.id AS video_id, v.tenant_id, v.status, v.file_key, v.hls_path, v.duration, v.created_at,
       v.error_code, v.error_reason, a.epoch, a.host, a.worker, a.started_at, a.ended_at, a.outcome, a.receipt
FROM {video} AS v
LEFT JOIN LATERAL (
    SELECT epoch, host, worker, started_at, ended_at, outcome, receipt
    FROM {attempt}
    WHERE video_id = v.id
    ORDER BY epoch DESC
    LIMIT 1) AS a ON TRUE
WHERE %(status)s::text IS NULL OR v.status = %(status)s
ORDER BY v.id DESC
LIMIT %(limit)s;

-- name: server
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::integer AS version_number,
       current_setting('max_connections')::integer AS max_connections,
       current_setting('transaction_read_only') = 'on' AS read_only,
       extract(epoch FROM now())::float8 AS now_seconds;

-- name: tables
-- What there is of ours: each table, its columns, and whether this role may work with it. Only plans are ever deleted.
SELECT t.name, to_regclass(quote_ident(t.name)) IS NOT NULL AS there,
       ARRAY (SELECT a.attname::text FROM pg_attribute AS a
              WHERE a.attrelid = to_regclass(quote_ident(t.name)) AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       ARRAY (SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p
              WHERE (p <> 'DELETE' OR t.name = %(plans)s)
                AND NOT has_table_privilege(to_regclass(quote_ident(t.name)), p)) AS missing_privileges
FROM unnest(%(tables)s::text[]) AS t (name);

-- name: columns
-- Of a varchar the length it was declared with.
SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type,
       CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod >= 0 THEN a.atttypmod - 4 END AS characters
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(quote_ident(%(table)s)) AND a.attnum > 0 AND NOT a.attisdropped;

-- name: indexes
SELECT n.name, i.indexrelid IS NOT NULL AS there, coalesce(i.indisvalid, false) AS valid
FROM unnest(%(names)s::text[]) AS n (name)
LEFT JOIN pg_index AS i ON i.indexrelid = to_regclass(quote_ident(n.name));

-- name: lease_indexes
-- An index that holds leased_until makes every renewal write to it: none of them is HOT then.
SELECT i.indexrelid::regclass::text AS name
FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'leased_until'
WHERE i.indrelid = to_regclass(quote_ident(%(table)s)) AND a.attnum = ANY (i.indkey);

-- name: at_work
-- One row for the status page: what runs, by partial indexes; hosts of the last hour's latest attempts; some videos' chunks.
SELECT (SELECT coalesce(json_agg(worker), '[]')
        FROM (SELECT leased_by FROM {video} WHERE status = 'PROCESSING'
              UNION
              SELECT worker FROM {chunk} WHERE state = 'RUNNING') AS busy (worker)
        WHERE worker IS NOT NULL) AS workers,
       (SELECT coalesce(json_object_agg(host, seconds), '{{}}')
        FROM (SELECT host, extract(epoch FROM now() - max(at))::float8
              FROM (SELECT host, coalesce(ended_at, started_at)
                    FROM {attempt}
                    WHERE started_at > now() - interval '1 hour'
                    ORDER BY started_at DESC
                    LIMIT 500) AS latest (host, at)
              GROUP BY host) AS seen (host, seconds)
       ) AS hosts,
       (SELECT coalesce(json_agg(json_build_object('video_id', v.id, 'tenant_id', v.tenant_id, 'owner', v.leased_by,
                                                   'chunks', c.chunks) ORDER BY v.id), '[]')
        FROM {video} AS v
        CROSS JOIN LATERAL (
            SELECT json_agg(json_build_object('number', number, 'state', state, 'worker', worker, 'assisted', assisted)
                            ORDER BY number) AS chunks
            FROM {chunk} WHERE video_id = v.id AND plan = v.plan) AS c
        WHERE v.id = ANY(%(video_ids)s::bigint[]) AND v.status = 'PROCESSING' AND c.chunks IS NOT NULL) AS videos;
