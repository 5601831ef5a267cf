"""What is written of a presentation when its chunks are done: name → text, with the type that players need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.domain.plan import Plan
from appliance.streams import dash, hls, storyboard
from appliance.streams.presentation import Presentation
from appliance.streams.segments import ChunkObjects

PLAYLIST_TYPE, MANIFEST_TYPE, TEXT_TYPE = "application/vnd.apple.mpegurl", "application/dash+xml", "text/vtt"


class Text(NamedTuple):
    """What lies under a name beside the master, and its MIME type."""

    text: str
    content_type: str


def texts(plan: Plan, chunks: Sequence[ChunkObjects], directory: str) -> dict[str, Text]:
    """Playlists, MPD and storyboard of all of the plan's chunks, to be put under the key `directory`.

    The master is put last: whoever finds it finds the rest.
    """
    presentation = Presentation.of(plan, chunks, directory)
    playlists = hls.playlists(presentation)
    found = {name: Text(text, PLAYLIST_TYPE) for name, text in playlists.items() if name != hls.MASTER}
    found[dash.MANIFEST] = Text(dash.manifest(presentation), MANIFEST_TYPE)
    if presentation.pictures:
        found[storyboard.NAME] = Text(storyboard.storyboard(presentation), TEXT_TYPE)
    return found | {hls.MASTER: Text(playlists[hls.MASTER], PLAYLIST_TYPE)}
