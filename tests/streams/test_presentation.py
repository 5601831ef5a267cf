from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from appliance.domain.media import Rendition
from appliance.domain.plan import Chunk, Plan, Storyboard
from appliance.domain.tracks import TextTrack
from appliance.streams.presentation import Presentation, published_rungs
from appliance.streams.segments import ChunkObjects, Extra, Kind
from appliance.streams.storyboard import storyboard, timestamp
from tests.streams.test_hls import PLAYLISTS, PREFIX, rung, two_chunks
from tests.streams.trees import plan_of


def costing(*sizes: int) -> tuple[Plan, list[ChunkObjects]]:
    """A presentation of two chunks whose rungs have these sizes, highest first."""
    plan = plan_of(Fraction(25), Fraction(6))
    assert plan.video is not None
    rungs = tuple(Rendition(str(n), 320, 180, 24, 1) for n in range(len(sizes)))
    tracks = [rung(str(n), (320, 180), 1, [size // 2]) for n, size in enumerate(sizes)]
    chunks = [ChunkObjects(number, "p", tuple(tracks)) for number in (1, 2)]
    return replace(plan, video=replace(plan.video, rungs=rungs)), chunks


@pytest.mark.parametrize(
    ("sizes", "published"),
    [
        ((4000, 2000, 1000, 500), "0123"),
        ((4000, 3398, 1000, 500), "0123"),  # more than 15 % less is another rung
        ((4000, 3400, 1000, 500), "023"),
        ((4000, 3600, 3300, 500), "023"),  # 3300 is compared with what is left above it
        ((4000, 3900, 3800, 3700), "03"),  # two always stay
        ((4000, 4100, 4200), "02"),  # a lower rung that costs more
        ((4000, 3900), "01"),
        ((4000,), "0"),
    ],
)
def test_of_two_rungs_that_cost_nearly_the_same_the_lower_is_not_published(sizes, published):
    assert "".join(published_rungs(*costing(*sizes))) == published


def test_sound_alone_is_never_pruned():
    plan, chunks = plan_of(Fraction(25), Fraction(4), video=False), two_chunks()[1]

    assert published_rungs(plan, [chunk for chunk in chunks if not chunk.number]) == ("audio",)


def test_pictures_of_the_storyboard_follow_each_other_sheet_by_sheet_and_chunk_by_chunk():
    plan, chunks = two_chunks()
    board = Storyboard(interval_frames=20, width=16, height=9, columns=2, rows=2)
    plan = replace(plan, storyboard=board, chunks=(plan.chunks[0], Chunk(1, 0, 3, 0, 90), Chunk(2, 3, 1, 90, 30)))
    sheets = {1: ("sprite_00001.jpg", "sprite_00002.jpg"), 2: ("sprite_00001.jpg",), 0: ()}
    chunks = [
        replace(chunk, extras=tuple(Extra(name, Kind.SPRITE, 9) for name in sheets[chunk.number])) for chunk in chunks
    ]

    text = storyboard(Presentation.of(plan, chunks, PLAYLISTS))

    assert text == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:00.667\n../media/plan/1-c/sprite_00001.jpg#xywh=0,0,16,9\n\n"
        "00:00:00.667 --> 00:00:01.335\n../media/plan/1-c/sprite_00001.jpg#xywh=16,0,16,9\n\n"
        "00:00:01.335 --> 00:00:02.002\n../media/plan/1-c/sprite_00001.jpg#xywh=0,9,16,9\n\n"
        "00:00:02.002 --> 00:00:02.669\n../media/plan/1-c/sprite_00001.jpg#xywh=16,9,16,9\n\n"
        "00:00:02.669 --> 00:00:03.003\n../media/plan/1-c/sprite_00002.jpg#xywh=0,0,16,9\n\n"
        "00:00:03.003 --> 00:00:03.670\n../media/plan/2-b/sprite_00001.jpg#xywh=0,0,16,9\n\n"
        "00:00:03.670 --> 00:00:04.004\n../media/plan/2-b/sprite_00001.jpg#xywh=16,0,16,9\n"
    )


def test_times_have_as_many_hours_as_they_need():
    assert timestamp(Fraction(0)) == "00:00:00.000"
    assert timestamp(Fraction(359999, 1) + Fraction(9996, 10000)) == "100:00:00.000"


def test_names_of_subtitles_differ_and_can_be_quoted():
    plan, chunks = two_chunks()
    tracks = [
        TextTrack("text1", 2, "eng", 'Say "hi"\n'),
        TextTrack("text2", 3, "eng", ""),
        TextTrack("text3", 4, "en", ""),
    ]
    text = ChunkObjects(3, f"{PREFIX}/3-d", (), tuple(Extra(f"{t.name}.vtt", Kind.TEXT, 9, t.name) for t in tracks))

    found = Presentation.of(replace(plan, text=tuple(tracks)), [*chunks, text], PLAYLISTS).subtitles

    assert [subtitle.name for subtitle in found] == ["Say hi", "en", "en (text3)"]
    assert [subtitle.language for subtitle in found] == ["en", "en", "en"]
