-- One row for each video table of the database: when somebody last reconciled it.
CREATE TABLE IF NOT EXISTS {tick} (
    video_table text PRIMARY KEY,
    ticked_at   timestamptz,
    host        text
);
INSERT INTO {tick} (video_table) VALUES (%(table)s) ON CONFLICT DO NOTHING;
