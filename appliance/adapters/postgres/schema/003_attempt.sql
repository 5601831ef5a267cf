-- The history: one row for each claim, closed exactly once, in the statement that ends the lease. No foreign key to
-- the video: a platform must be able to delete its rows, and the history may outlive them.
CREATE TABLE IF NOT EXISTS {attempt} (
    token        uuid PRIMARY KEY,
    video_id     bigint NOT NULL,
    epoch        bigint NOT NULL,
    host         text NOT NULL,
    worker       text NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    outcome      text CHECK (outcome IN ('ready', 'failed', 'retried', 'cancelled', 'released', 'abandoned', 'reclaimed',
                                         'superseded')),
    error_code   text,
    error_reason text,
    receipt      jsonb,
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX IF NOT EXISTS {attempt_of} ON {attempt} (video_id, epoch);
CREATE INDEX IF NOT EXISTS {attempt_recent} ON {attempt} (started_at);
