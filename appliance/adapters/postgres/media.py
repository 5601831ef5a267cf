"""What the tables say of media in storage: which are named, and whose leftovers are still to be looked for."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from appliance.adapters.postgres.connection import Database


class Media:
    """`rest_seconds`: how long a video must have been left alone before anything of it is unnamed for good."""

    def __init__(self, database: Database, *, rest_seconds: float) -> None:
        self._database = database
        self._rest_seconds = rest_seconds

    def take_unswept(self, limit: int) -> list[int]:
        """Videos of at most `limit` ended attempts that nobody has swept after; they count as swept from now on."""
        rows = self._database.run("take_unswept", rest_seconds=self._rest_seconds, limit=limit)
        return sorted({row["video_id"] for row in rows})

    def sweep_again(self, video_ids: Sequence[int]) -> None:
        """These were not finished: somebody takes them again."""
        if video_ids:
            self._database.settle("sweep_again", ids=list(video_ids))

    def forget_plans(self, video_id: int) -> None:
        """Drop the plans, and with them the chunks, that a READY video does not play from."""
        self._database.settle("forget_plans", video_id=video_id)

    def named(self, video_id: int) -> set[UUID] | None:
        """The tokens whose pieces are in use; None where nothing may be deleted.

        Ask after the list of the objects was read: a token stands in the tables before its first object is written.
        """
        rows = self._database.run("named_media", video_id=video_id, rest_seconds=self._rest_seconds)
        if not rows:
            return None
        row = rows[0]
        return {UUID(token) for token in row["chunk_tokens"]} | ({row["finished_token"]} - {None})

    def close(self) -> None:
        """Until the next statement there is no connection."""
        self._database.close()
