"""Whole command lines: whoever changes a flag reads here what it was."""

from __future__ import annotations

import shlex
from dataclasses import replace
from fractions import Fraction

import pytest

from appliance.adapters.ffmpeg import commands, filters
from appliance.domain.content import Content
from appliance.domain.media import LadderStep, Source
from appliance.domain.plan import Packaging, Plan, make_plan
from tests.domain.test_plan import audio, video

GUARDS = f"-protocol_whitelist file,pipe,fd -format_whitelist {commands.FORMATS} -max_pixels 1000000"
STEPS = (LadderStep(720, 23, 2_200_000), LadderStep(480, 24, 1_000_000))
FRAGMENTS = (
    "-map_metadata -1 -map_chapters -1 -bitexact -f mp4"
    " -movflags +frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets+skip_sidx -use_editlist 0"
)


def plan_of(source: Source) -> Plan:
    return make_plan(source, identity={}, steps=STEPS, packaging=Packaging())


@pytest.fixture
def plan() -> Plan:
    return plan_of(Source("mov", video(Fraction(30000, 1001), 150), audio(150)))


def test_a_video_chunk(plan: Plan) -> None:
    command = commands.video_chunk("ffmpeg", plan, plan.chunk(2), preset="veryfast", threads=1, max_pixels=1_000_000)
    x264 = (
        "-g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop -bf 3 -threads 1"
        " -x264-params force-cfr=1:stitchable=1:zones=1800,1816,q=51,me=dia,subme=0,merange=4,no-8x8dct"
        " -frames:v 1816 -bsf:v 'noise=drop=gte(n\\,1800)'"
        " -fps_mode passthrough -enc_time_base 1001:30000"
    )
    assert command == shlex.split(
        f"ffmpeg -hide_banner -nostdin -y -v verbose -max_error_rate 1 -nostats -progress pipe:1 {GUARDS} -copyts"
        " -noaccurate_seek -seek_timestamp 1 -ss 60.026633 -reinit_filter 0 -threads 1"
        " -i file:source -filter_complex_threads 1 -filter_complex"
        " '[0:0]scale=1280:720:force_original_aspect_ratio=decrease,pad=1280:720:-1:-1:eval=frame,"
        "settb=1/720000,setpts=PTS-(43240197),fps=fps=30000/1001:start_time=0:round=near,"
        "tpad=stop=-1:stop_mode=clone,trim=start_frame=0:end_frame=1816,"
        "scale=1280:720:flags=bicubic+accurate_rnd:in_color_matrix=bt709:out_color_matrix=bt709:out_range=tv,"
        "format=yuv420p,setsar=1,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709,"
        "split=2[720p][s1];[s1]scale=854:480:flags=bicubic,setsar=1,null[480p]'"
        " -map [720p] -c:v libx264 -preset veryfast -profile:v high -crf 23 -maxrate 2200000 -bufsize 4400000"
        f" {x264} {FRAGMENTS} -video_track_timescale 30000 file:720p.mp4"
        " -map [480p] -c:v libx264 -preset veryfast -profile:v high -crf 24 -maxrate 1000000 -bufsize 2000000"
        f" {x264} {FRAGMENTS} -video_track_timescale 30000 file:480p.mp4"
    )


def test_the_last_chunk_ends_where_the_recording_does(plan: Plan) -> None:
    last = plan.chunks[-1]
    command = commands.video_chunk("ffmpeg", plan, last, preset="veryfast", threads=1, max_pixels=1_000_000)
    assert command[command.index("-frames:v") + 1] == str(last.frames)
    assert "-bsf:v" not in command


def test_the_audio_chunk(plan: Plan) -> None:
    assert commands.audio_chunk("ffmpeg", plan, max_pixels=1_000_000) == shlex.split(
        f"ffmpeg -hide_banner -nostdin -y -v verbose -max_error_rate 1 -nostats -progress pipe:1"
        f" {GUARDS} -copyts -i file:source"
        " -filter_complex '[0:1]asettb=1/720000,asetpts=PTS-(0),aresample=48000:async=1:first_pts=0,"
        "aformat=sample_fmts=fltp:sample_rates=48000:channel_layouts=stereo,apad,atrim=end_sample=7200768[audio]'"
        f" -map [audio] -c:a aac -b:a 128000 {FRAGMENTS} file:audio.mp4"
    )


def test_the_first_chunk_is_not_sought(plan: Plan) -> None:
    command = commands.video_chunk("ffmpeg", plan, plan.chunk(1), preset="veryfast", threads=1, max_pixels=1)
    assert "-ss" not in command


@pytest.mark.parametrize(
    ("content", "preset", "own", "special"),
    [
        (Content.SCREEN, "veryfast", "", True),
        (Content.CAMERA, "veryfast", "", False),
        (Content.SCREEN, "medium", "", False),
        (Content.SCREEN, "veryfast", "veryfast", False),  # a preset that was set for screens is what was meant
    ],
)
def test_screens_are_sought_less_for_movement(
    plan: Plan, content: Content, preset: str, own: str, special: bool
) -> None:
    assert plan.video is not None
    plan = replace(plan, video=replace(plan.video, content=content, preset=own))
    command = commands.video_chunk("ffmpeg", plan, plan.chunk(1), preset=preset, threads=1, max_pixels=1)
    assert [":subme=1:" in words for words in command if "stitchable" in words] == [special] * len(plan.video.rungs)


def test_f45_every_call_is_guarded(plan: Plan) -> None:
    calls = [
        commands.probe("ffprobe", 1_000_000),
        commands.packets("ffprobe", 1_000_000),
        commands.trial("ffmpeg", 1_000_000, 0, "v"),
        commands.video_chunk("ffmpeg", plan, plan.chunk(1), preset="veryfast", threads=1, max_pixels=1_000_000),
        commands.audio_chunk("ffmpeg", plan, max_pixels=1_000_000),
        commands.text_chunk("ffmpeg", plan, max_pixels=1_000_000),
    ]
    for call in calls:
        before_input = " ".join(call[: call.index("-i")])
        assert GUARDS in before_input
        assert call[call.index("-i") + 1] == "file:source"
    assert plan.video is not None
    assert plan.storyboard is not None
    top = plan.video.rungs[0]
    for call in (
        commands.poster("ffmpeg", top, any_picture=True, max_pixels=1_000_000),
        commands.sprites("ffmpeg", top, plan.storyboard, 60, max_pixels=1_000_000),
        commands.wave("ffmpeg", max_pixels=1_000_000),
        commands.loudness("ffmpeg", plan, max_pixels=1_000_000),
        commands.loudness_of_encoded("ffmpeg", max_pixels=1_000_000),
        commands.even_sound("ffmpeg", plan, max_pixels=1_000_000),
        commands.scan("ffmpeg", 1_000_000, 0, 10.0),
    ):
        assert GUARDS in " ".join(call)
    forbidden = {"hls", "concat", "sdp", "dash", "image2", "rtsp", "lavfi", "ffmetadata", "srt"}
    assert not forbidden & set(commands.FORMATS.split(","))


def test_high_dynamic_range_is_mapped_in_linear_light() -> None:
    plan = plan_of(Source("mov", video(30, 10, transfer="smpte2084", matrix="bt2020"), None))
    graph = filters.video_graph(plan, plan.chunk(1))
    assert "zscale=transferin=smpte2084" in graph
    assert graph.index("tonemap=hable") < graph.index("scale=1280:720:flags")


def test_interlaced_pictures_are_made_whole_before_the_grid() -> None:
    plan = plan_of(Source("mov", video(25, 10, fields="tff"), None))
    graph = filters.video_graph(plan, plan.chunk(1))
    assert graph.index("bwdif") < graph.index("fps=")


def test_where_the_sound_outlasts_the_picture_the_last_one_is_held() -> None:
    plan = plan_of(Source("mov", video(30, 10), audio(130)))
    graph = filters.video_graph(plan, plan.chunk(2))
    # chunk 2 begins at frame 1800; the picture's last frame is 299
    assert "trim=start_frame=1501:end_frame=3317" in graph
