"""Where the pieces of a video lie in storage: media by plan and chunk, playlists by attempt.

So an owner that lost its lease can write only where nobody looks, and a re-encode never disturbs the published stream.
Every piece lies under the token of whoever made it, which its row in the database bears as well.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from uuid import UUID

from appliance.domain.plan import Plan
from appliance.domain.video import Lease

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: Below a video's home; whatever looks different was not made here.
_PIECE = re.compile(rf"(?:media/[^/]+/)?[0-9]+-({_UUID})/[^/]+")


@dataclass(frozen=True)
class Layout:
    """The prefixes of one attempt at one plan."""

    media: str
    playlists: str

    @classmethod
    def of(cls, prefix: str, lease: Lease, plan: Plan) -> Layout:
        playlists = posixpath.join(home(prefix, lease.video_id), f"{lease.epoch}-{lease.token}")
        return cls(media_of(prefix, lease.video_id, plan), playlists)


def home(prefix: str, video_id: int) -> str:
    """Everything of one video lies below it."""
    return posixpath.join(prefix, str(video_id))


def media_of(prefix: str, video_id: int, plan: Plan) -> str:
    """Where all chunks of the plan lie, whoever makes them."""
    return posixpath.join(home(prefix, video_id), "media", plan.fingerprint)


def chunk_prefix(media: str, number: int, token: UUID) -> str:
    """Where one attempt at one chunk lies."""
    return f"{media}/{number}-{token}"


def maker_of(key: str, video_home: str) -> UUID | None:
    """The token of the chunk or the attempt that made it; None for what is not laid out like this."""
    found = _PIECE.fullmatch(key.removeprefix(f"{video_home}/")) if key.startswith(f"{video_home}/") else None
    return UUID(found[1]) if found else None
