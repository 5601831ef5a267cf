-- autocommit: the platform goes on writing while the index is built.
-- claim_next looks for the first due row.
-- What an interrupted build left behind is invalid and goes first.
DROP INDEX CONCURRENTLY IF EXISTS {video_due};
CREATE INDEX CONCURRENTLY {video_due} ON {video} (priority DESC, (coalesce(run_after, '-infinity')), id) WHERE status = 'UPLOADED';
