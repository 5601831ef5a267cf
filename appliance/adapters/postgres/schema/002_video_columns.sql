-- What is missing on a platform's table is added: every column nullable or with a constant default, so that no page is
-- rewritten and no insert of the platform's fails. No CHECK, and nothing of the platform's is changed or dropped.
ALTER TABLE {video}
    ADD COLUMN IF NOT EXISTS tenant_id           bigint,
    ADD COLUMN IF NOT EXISTS file_key            text,
    ADD COLUMN IF NOT EXISTS hls_path            text,
    ADD COLUMN IF NOT EXISTS duration            double precision,
    ADD COLUMN IF NOT EXISTS leased_by           varchar(64),
    ADD COLUMN IF NOT EXISTS leased_until        timestamptz,
    ADD COLUMN IF NOT EXISTS error_reason        text,
    ADD COLUMN IF NOT EXISTS created_at          timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at          timestamptz,
    -- orders claim_next, and nothing else
    ADD COLUMN IF NOT EXISTS priority            integer NOT NULL DEFAULT 0,
    -- NULL: due now
    ADD COLUMN IF NOT EXISTS run_after           timestamptz,
    ADD COLUMN IF NOT EXISTS next_ring_at        timestamptz,
    ADD COLUMN IF NOT EXISTS ring_count          integer NOT NULL DEFAULT 0,
    -- the fence: made by the client, new for every claim
    ADD COLUMN IF NOT EXISTS lease_token         uuid,
    -- +1 at every claim, never reset: orders attempts
    ADD COLUMN IF NOT EXISTS lease_epoch         bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS leased_at           timestamptz,
    -- NULL on a row in PROCESSING: its owner is not one of ours
    ADD COLUMN IF NOT EXISTS renewed_at          timestamptz,
    -- encode errors
    ADD COLUMN IF NOT EXISTS failure_count       integer NOT NULL DEFAULT 0,
    -- reclaims since the last newly finished chunk
    ADD COLUMN IF NOT EXISTS loss_count          integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS error_code          text,
    ADD COLUMN IF NOT EXISTS cancel_requested_at timestamptz,
    -- fingerprint of the plan being encoded, or encoded last
    ADD COLUMN IF NOT EXISTS plan                text,
    -- the attempt whose stream hls_path names
    ADD COLUMN IF NOT EXISTS finished_token      uuid,
    ADD COLUMN IF NOT EXISTS finished_epoch      bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS ready_at            timestamptz;
