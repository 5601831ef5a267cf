-- What a connection says to its server beside the statements of the work.

-- name: check
-- Whether the server still answers on this connection.
SELECT 1;

-- name: session
-- Not in the startup packet: connection poolers refuse options there.
SELECT set_config('statement_timeout', %(statement_timeout)s, false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('timezone', 'UTC', false),
       CASE WHEN %(search_path)s <> '' THEN set_config('search_path', %(search_path)s, false) END;

-- name: migrate_patience
-- A change of the platform's table gives up rather than hold up everybody who queues behind it.
SELECT set_config('lock_timeout', %(lock_timeout)s, false);

-- name: migrate_lock
-- Tried, not waited for: a waiting statement holds a snapshot, and CREATE INDEX CONCURRENTLY waits for every snapshot.
SELECT pg_try_advisory_lock(hashtextextended('video-appliance migrate ' || %(table)s, 0));

-- name: migrate_record
CREATE TABLE IF NOT EXISTS {migration} (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());

-- name: migrate_applied
SELECT name FROM {migration};

-- name: migrate_note
INSERT INTO {migration} (name) VALUES (%(name)s);
