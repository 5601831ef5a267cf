from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.media import DEFAULT_LADDER, AudioStream, Source, VideoStream
from appliance.domain.plan import AUDIO_CHUNK, Packaging, Plan, make_plan

PACKAGING = Packaging()


def video(
    rate: Fraction | int, seconds: Fraction | float, *, start: Fraction | int = 0, **changes: object
) -> VideoStream:
    stream = VideoStream(
        index=0,
        codec="h264",
        width=1280,
        height=720,
        sample_aspect=Fraction(1),
        pixel_format="yuv420p",
        transfer="bt709",
        matrix="bt709",
        fields="",
        start_seconds=Fraction(start),
        end_seconds=Fraction(start) + Fraction(seconds),
        packets=1,
        busiest_rate=Fraction(rate),
        seekable=True,
    )
    return replace(stream, **changes)  # type: ignore[arg-type]


def audio(seconds: float, *, start: Fraction | float = 0) -> AudioStream:
    return AudioStream(1, "aac", 2, 48_000, "eng", Fraction(start), Fraction(start) + Fraction(seconds))


def plan_of(source: Source, **identity: object) -> Plan:
    return make_plan(source, identity=dict(identity), steps=DEFAULT_LADDER, packaging=PACKAGING)


@given(
    rate=st.sampled_from(
        [Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(10)]
    ),
    seconds=st.fractions(Fraction(1, 100), Fraction(8000), max_denominator=1000),
)
def test_chunks_cover_every_frame_once_on_segment_boundaries(rate: Fraction, seconds: Fraction) -> None:
    plan = plan_of(Source("mov", video(rate, seconds), audio(float(seconds))))
    pieces = [chunk for chunk in plan.chunks if chunk.number != AUDIO_CHUNK]
    assert pieces[0].first_frame == 0
    for earlier, later in itertools.pairwise(pieces):
        assert later.first_frame == earlier.first_frame + earlier.frames
        assert later.first_frame == later.first_segment * plan.grid.segment_frames
        assert earlier.frames % plan.grid.segment_frames == 0
    assert pieces[-1].first_frame + pieces[-1].frames == plan.grid.frames
    assert abs(plan.grid.duration_seconds - seconds) <= 1 / rate
    ends = [plan.audio_boundary(segment) for segment in range(plan.grid.segments + 1)]
    assert all(later > earlier for earlier, later in itertools.pairwise(ends))


def test_a_frame_is_a_whole_number_of_ticks_at_every_rate() -> None:
    for rate in (24, 25, 30, 10, 12, 15, Fraction(24000, 1001), Fraction(30000, 1001)):
        grid = plan_of(Source("mov", video(rate, 10), None)).grid
        assert grid.frame_ticks / Fraction(grid.timescale) == 1 / Fraction(rate)


def test_a_lecture_is_cut_into_minutes_with_the_audio_first() -> None:
    plan = plan_of(Source("mov", video(30, 150), audio(150)))
    assert [(chunk.number, chunk.segments) for chunk in plan.chunks] == [(0, 25), (1, 10), (2, 10), (3, 5)]


@pytest.mark.parametrize(("seconds", "segments"), [(30, [3, 2]), (6, [1]), (300, [10, 10, 10, 10, 10])])
def test_a_short_video_is_cut_for_those_who_encode_it_side_by_side(seconds: int, segments: list[int]) -> None:
    two = replace(PACKAGING, side_by_side=2)
    plan = make_plan(Source("mov", video(30, seconds), None), identity={}, steps=DEFAULT_LADDER, packaging=two)
    assert [chunk.segments for chunk in plan.chunks] == segments


def test_a_source_that_cannot_be_cut_is_one_chunk() -> None:
    plan = plan_of(Source("mpegts", video(30, 600, seekable=False), None))
    assert [chunk.frames for chunk in plan.chunks] == [18_000]


def test_sound_that_begins_earlier_moves_output_zero_by_whole_frames() -> None:
    early = plan_of(Source("mov", video(30, 10, start=1), audio(11, start=0)))
    assert early.origin_ticks == 0
    assert early.grid.frames == 330
    primed = plan_of(Source("mov", video(30, 10), audio(10, start=-0.023)))
    assert primed.origin_ticks == 0


def test_the_picture_is_held_where_the_sound_goes_on() -> None:
    plan = plan_of(Source("mov", video(30, 10), audio(100)))
    assert plan.video is not None
    assert (plan.video.frames, plan.grid.frames) == (300, 3000)


def test_a_plan_survives_json() -> None:
    plan = plan_of(Source("mov", video(30000 / Fraction(1001), 200), audio(200)))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("change", [{"etag": "b"}, {"generation": 7}, {"ffmpeg": "10"}])
def test_the_fingerprint_names_everything_that_makes_the_plan(change: dict[str, object]) -> None:
    source = Source("mov", video(30, 60), None)
    identity = {"etag": "a", "generation": 0, "ffmpeg": "9"}
    same = plan_of(source, **identity)
    assert plan_of(source, **identity).fingerprint == same.fingerprint
    assert plan_of(source, **{**identity, **change}).fingerprint != same.fingerprint


def test_the_fingerprint_changes_with_the_ladder_and_the_packaging() -> None:
    source = Source("mov", video(30, 60), None)
    base = plan_of(source)
    shorter = make_plan(source, identity={}, steps=DEFAULT_LADDER[2:], packaging=PACKAGING)
    longer = make_plan(source, identity={}, steps=DEFAULT_LADDER, packaging=Packaging(chunk_seconds=30))
    assert len({base.fingerprint, shorter.fingerprint, longer.fingerprint}) == 3
