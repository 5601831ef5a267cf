-- autocommit: attempts go on while the index is built.
-- The sweep of media looks for ended attempts, the oldest first.
-- What an interrupted build left behind is invalid and goes first.
DROP INDEX CONCURRENTLY IF EXISTS {attempt_swept};
CREATE INDEX CONCURRENTLY {attempt_swept} ON {attempt} (ended_at) WHERE swept_at IS NULL;
