-- autocommit: the platform goes on writing while the index is built.
-- The sweep looks for rows whose ring is due, in a backlog that may be deep.
-- What an interrupted build left behind is invalid and goes first.
DROP INDEX CONCURRENTLY IF EXISTS {video_ring};
CREATE INDEX CONCURRENTLY {video_ring} ON {video} ((coalesce(next_ring_at, '-infinity')), id) WHERE status = 'UPLOADED';
