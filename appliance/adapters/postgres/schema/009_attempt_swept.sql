-- When somebody looked for what the attempt left in storage.
ALTER TABLE {attempt} ADD COLUMN IF NOT EXISTS swept_at timestamptz;
