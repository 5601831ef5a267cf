-- autocommit: the platform goes on writing while the index is built.
-- Reconcile walks the rows in PROCESSING by id; leased_until stays out of every index, or no renewal is HOT.
-- What an interrupted build left behind is invalid and goes first.
DROP INDEX CONCURRENTLY IF EXISTS {video_held};
CREATE INDEX CONCURRENTLY {video_held} ON {video} (id) WHERE status = 'PROCESSING';
