-- What is to be encoded, by plan: another source, ladder, ffmpeg or generation is another plan beside the old one.
CREATE TABLE IF NOT EXISTS {plan} (
    video_id    bigint NOT NULL,
    fingerprint text NOT NULL,
    -- the ffmpeg that the owner encodes with: assistants need the same
    build       text NOT NULL,
    plan        jsonb NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (video_id, fingerprint)
);
-- Who holds which piece, and where the finished piece lies; never a percentage.
CREATE TABLE IF NOT EXISTS {chunk} (
    video_id         bigint NOT NULL,
    plan             text NOT NULL,
    number           integer NOT NULL,
    state            text NOT NULL DEFAULT 'TODO' CHECK (state IN ('TODO', 'RUNNING', 'DONE')),
    token            uuid,
    -- the owner's lease_epoch when the chunk was begun
    epoch            bigint,
    worker           text,
    leased_until     timestamptz,
    -- begun by an encoder that does not own the video
    assisted         boolean NOT NULL DEFAULT false,
    attempts         integer NOT NULL DEFAULT 0,
    assistant_losses integer NOT NULL DEFAULT 0,
    started_at       timestamptz,
    done_at          timestamptz,
    -- where the pieces lie, their sizes and exact durations
    objects          jsonb,
    PRIMARY KEY (video_id, plan, number),
    FOREIGN KEY (video_id, plan) REFERENCES {plan} (video_id, fingerprint) ON DELETE CASCADE,
    CHECK ((state = 'TODO') = (token IS NULL)),
    CHECK ((state = 'RUNNING') = (leased_until IS NOT NULL)),
    CHECK ((state = 'DONE') = (objects IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS {chunk_running} ON {chunk} (token) WHERE state = 'RUNNING';
