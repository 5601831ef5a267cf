"""The test database of a chaos run: every version of every row is kept, with who wrote it; long waits are shortened."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg2
import psycopg2.extras

from tests.chaos.scale import WAITS_DIVISOR

#: The platform of the run: the only one that may submit.
PLATFORM = "chaos platform"

SCHEMA = f"""
CREATE TABLE chaos_history (
    seq         bigserial PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    relation    text NOT NULL,
    application text NOT NULL DEFAULT current_setting('application_name'),
    version     jsonb NOT NULL
);
-- seq is drawn under the row's lock, so for one row it is the order of its versions
CREATE FUNCTION chaos_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_history (relation, version)
    VALUES (TG_TABLE_NAME,
            CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) || '{{"deleted": true}}' ELSE to_jsonb(NEW) END
            - ARRAY['objects', 'receipt']);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_keep AFTER INSERT OR UPDATE OR DELETE ON video FOR EACH ROW EXECUTE FUNCTION chaos_keep();
CREATE TRIGGER chaos_keep AFTER INSERT OR UPDATE OR DELETE ON video_attempt FOR EACH ROW EXECUTE FUNCTION chaos_keep();
CREATE TRIGGER chaos_keep AFTER INSERT OR UPDATE OR DELETE ON video_chunk FOR EACH ROW EXECUTE FUNCTION chaos_keep();
CREATE FUNCTION chaos_hurry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.run_after := now() + (NEW.run_after - now()) / {WAITS_DIVISOR};
    NEW.next_ring_at := NEW.run_after;
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_hurry BEFORE UPDATE ON video FOR EACH ROW
    WHEN (NEW.status = 'UPLOADED' AND NEW.run_after > now() AND NEW.run_after IS DISTINCT FROM OLD.run_after)
    EXECUTE FUNCTION chaos_hurry();
"""


@dataclass(frozen=True)
class Version:
    """A row as it was after one write."""

    at: datetime
    application: str
    row: dict[str, Any]


@dataclass
class History:
    """Versions in order: of videos by id, of attempts by token, of chunks by (video, plan, number)."""

    videos: dict[int, list[Version]] = field(default_factory=lambda: defaultdict(list))
    attempts: dict[str, list[Version]] = field(default_factory=lambda: defaultdict(list))
    chunks: dict[tuple[int, str, int], list[Version]] = field(default_factory=lambda: defaultdict(list))

    def add(self, relation: str, version: Version) -> None:
        row = version.row
        if relation == "video":
            self.videos[row["id"]].append(version)
        elif relation == "video_attempt":
            self.attempts[row["token"]].append(version)
        else:
            self.chunks[row["video_id"], row["plan"], row["number"]].append(version)


def install(dsn: str) -> None:
    """Triggers, and commits that survive a crash of the server (the embedded one would not wait for them)."""
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(SCHEMA)
        cursor.execute("SELECT format('ALTER DATABASE %I SET synchronous_commit = on', current_database())")
        cursor.execute(cursor.fetchone()[0])
    connection.close()


def load(dsn: str) -> History:
    history = History()
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor("history") as cursor:
        cursor.itersize = 5000
        cursor.execute("SELECT relation, at, application, version FROM chaos_history ORDER BY seq")
        for relation, at, application, row in cursor:
            history.add(relation, Version(at, application, row))
    connection.close()
    return history
