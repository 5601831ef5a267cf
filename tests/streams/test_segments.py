from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from appliance.domain.errors import Transient
from appliance.domain.plan import AUDIO_RATE
from appliance.streams import boxes
from appliance.streams.segments import ChunkObjects, TrackObjects
from tests.streams.trees import FRAGMENTED, encode_audio, encode_video, ffmpeg, package_audio, package_video, plan_of

NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def plan():
    return plan_of(NTSC, Fraction(57, 10))


@pytest.fixture(scope="module")
def encoded(plan, tmp_path_factory):
    """What ffmpeg wrote of the second chunk, and of the sound."""
    directory = tmp_path_factory.mktemp("encoded")
    encode_video(plan, plan.chunk(2), directory)
    encode_audio(plan, directory / "audio.mp4")
    return directory


def fragments(directory, objects: TrackObjects):
    init = boxes.read_init((directory / objects.init_name).read_bytes())
    for segment in objects.segments:
        for fragment in boxes.read_fragments((directory / segment.name).read_bytes(), init):
            yield segment, fragment, list(fragment.samples)


def test_a_chunk_becomes_segments_of_the_plan_with_numbers_and_times_of_the_presentation(plan, encoded, tmp_path):
    objects = package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)

    assert [segment.name for segment in objects.segments] == [f"180p_0000{n}.m4s" for n in (4, 5, 6)]
    assert [segment.samples for segment in objects.segments] == [30, 30, 21]
    assert [segment.duration for segment in objects.segments] == [30030, 30030, 21021]
    assert (objects.timescale, objects.width, objects.height) == (30000, 320, 180)
    assert objects.codec.startswith("avc1.64")
    found = list(fragments(tmp_path, objects))
    assert [fragment.sequence for _, fragment, _ in found] == [7, 8, 9, 10, 11, 12]
    assert [fragment.decode_time for _, fragment, _ in found] == [1001 * frame for frame in range(90, 171, 15)]
    assert {sample.duration for _, _, samples in found for sample in samples} == {1001}


def test_every_group_of_pictures_is_one_fragment_that_shows_its_own_frames_and_begins_with_an_idr(
    plan, encoded, tmp_path
):
    objects = package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)

    for number, (_, _, samples) in enumerate(fragments(tmp_path, objects)):
        first = 90 + 15 * number
        shown = sorted(sample.decode_time + sample.composition for sample in samples)
        assert shown == [1001 * frame for frame in range(first, first + len(samples))]
        assert [sample.flags == boxes.SYNC for sample in samples] == [True] + [False] * (len(samples) - 1)
    assert any(sample.composition < 0 for _, _, samples in fragments(tmp_path, objects) for sample in samples)


def test_iframe_ranges_reach_from_the_moof_to_the_end_of_the_idr(plan, encoded, tmp_path):
    objects = package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)

    for segment in objects.segments:
        data = (tmp_path / segment.name).read_bytes()
        init = boxes.read_init((tmp_path / objects.init_name).read_bytes())
        for gop, fragment in zip(segment.gops, boxes.read_fragments(data, init), strict=True):
            idr = next(iter(fragment.samples))
            assert data[gop.offset + 4 : gop.offset + 8] == b"moof"
            assert gop.offset + gop.iframe_bytes == idr.offset + idr.size
            assert boxes.is_idr(boxes.nal_types(data, idr, 4))


def test_sizes_and_sums_recorded_are_those_on_disk(plan, encoded, tmp_path):
    objects = package_video(plan, plan.chunk(2), "90p", encoded / "90p.mp4", tmp_path)

    assert objects.sizes == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert objects.init_sha256 == hashlib.sha256((tmp_path / "90p_init.mp4").read_bytes()).hexdigest()


def test_media_data_is_moved_byte_for_byte(plan, encoded, tmp_path):
    objects = package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)
    source = (encoded / "180p.mp4").read_bytes()

    def payload(data: bytes, init: boxes.Init) -> bytes:
        found = boxes.read_fragments(data, init)
        return b"".join(data[s.offset : s.offset + s.size] for fragment in found for s in fragment.samples)

    init = boxes.read_init(source)
    written = b"".join(payload((tmp_path / segment.name).read_bytes(), init) for segment in objects.segments)
    assert written == payload(source, init)


def test_the_same_input_gives_the_same_bytes(plan, encoded, tmp_path):
    trees = []
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path / name)
        trees.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})

    assert trees[0] == trees[1]


def test_ffmpegs_own_fragments_do_not_matter(plan, encoded, tmp_path):
    """The same stream with a fragment for every picture."""
    refragmented = tmp_path / "refragmented.mp4"
    flags = "+frag_every_frame+empty_moov+default_base_moof+negative_cts_offsets"
    ffmpeg(
        *["-i", str(encoded / "180p.mp4"), "-c", "copy", "-bitexact", "-movflags", flags],
        *["-video_track_timescale", "30000", "-use_editlist", "0", str(refragmented)],
    )
    trees = []
    for name, source in (("as written", encoded / "180p.mp4"), ("again", refragmented)):
        (tmp_path / name).mkdir()
        package_video(plan, plan.chunk(2), "180p", source, tmp_path / name)
        trees.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.m4s")})

    assert trees[0] == trees[1]


def test_chunks_of_one_plan_have_the_same_init(plan, encoded, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    encode_video(plan, plan.chunk(1), tmp_path)

    for rung in ("180p", "90p"):
        one = package_video(plan, plan.chunk(1), rung, tmp_path / f"{rung}.mp4", first)
        two = package_video(plan, plan.chunk(2), rung, encoded / f"{rung}.mp4", second)
        assert one.init_sha256 == two.init_sha256


def test_the_init_has_no_edit_list_no_user_data_and_no_times_of_creation(plan, tmp_path):
    source = tmp_path / "180p.mp4"
    ffmpeg(
        *["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30000/1001", "-frames:v", "81", "-c:v", "libx264"],
        *["-g", "15", "-keyint_min", "15", "-sc_threshold", "0", "-flags", "+cgop", "-bf", "3", "-pix_fmt", "yuv420p"],
        *["-metadata", "creation_time=2026-01-01T00:00:00Z"],
        *["-movflags", "+frag_keyframe+default_base_moof+delay_moov"],
        *["-video_track_timescale", "30000", str(source)],
    )
    assert b"edts" in source.read_bytes()
    assert b"udta" in source.read_bytes()

    package_video(plan, plan.chunk(2), "180p", source, tmp_path)
    data = (tmp_path / "180p_init.mp4").read_bytes()

    assert b"edts" not in data
    assert b"udta" not in data
    for kind in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(kind)
        assert data[at + 8 : at + 16] == bytes(8)
    assert [box.kind for box in boxes.walk(data)] == [b"ftyp", b"moov"]
    assert boxes.read_init(data).timescale == 30000


def test_sound_loses_its_priming_and_keeps_every_other_frame(plan, encoded, tmp_path):
    objects = package_audio(plan, encoded / "audio.mp4", tmp_path)
    init = boxes.read_init((encoded / "audio.mp4").read_bytes())
    data = (encoded / "audio.mp4").read_bytes()
    priming, *kept = [s for fragment in boxes.read_fragments(data, init) for s in fragment.samples]

    found = list(fragments(tmp_path, objects))
    assert (objects.codec, objects.timescale, objects.width) == ("mp4a.40.2", AUDIO_RATE, 0)
    assert [sample.size for _, _, samples in found for sample in samples] == [sample.size for sample in kept]
    assert priming.decode_time == 0
    assert [fragment.sequence for _, fragment, _ in found] == [1, 2, 3, 4, 5, 6]
    assert [len(segment.gops) for segment in objects.segments] == [1] * 6
    assert found[0][1].decode_time == 0


def test_sound_is_cut_at_the_frames_nearest_to_the_pictures_boundaries(plan, encoded, tmp_path):
    objects = package_audio(plan, encoded / "audio.mp4", tmp_path)

    for number, (_, fragment, _) in enumerate(fragments(tmp_path, objects)):
        apart = abs(Fraction(fragment.decode_time, AUDIO_RATE) - plan.grid.boundary(number) / NTSC)
        assert apart <= Fraction(512, AUDIO_RATE)


@pytest.mark.parametrize("frames", [1, 2, 46, 47, 48])
def test_sound_of_any_length_is_exact(frames, tmp_path):
    plan = plan_of(Fraction(25), Fraction(frames * 1024, AUDIO_RATE), video=False)
    encode_audio(plan, tmp_path / "audio.mp4")

    objects = package_audio(plan, tmp_path / "audio.mp4", tmp_path)

    assert sum(segment.samples for segment in objects.segments) == plan.audio_frames


def cut_short(source, target) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: len(data) * 2 // 3])


def remux(source, target, *options: str, before: tuple[str, ...] = (), timescale: int = 30000) -> None:
    clock = ["-video_track_timescale", str(timescale)]
    ffmpeg(*before, "-i", str(source), "-c", "copy", *options, *FRAGMENTED, *clock, str(target))


def shorter(source, target) -> None:
    remux(source, target, "-frames:v", "80")


def other_clock(source, target) -> None:
    remux(source, target, timescale=90000)


def slower(source, target) -> None:
    remux(source, target, before=("-itsscale", "2"))


def empty(source, target) -> None:
    target.write_bytes(b"")


def no_media(source, target) -> None:
    target.write_bytes(b"not a film" * 100)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_short, "reaches past its end"),
        (shorter, "ends after 80 samples"),
        (other_clock, "90000 ticks a second, not 30000"),
        (slower, "grid of 1001 ticks"),
        (empty, "it is empty"),
        (no_media, "reaches past its end"),
    ],
)
def test_f48_what_ffmpeg_left_unfinished_is_refused_with_a_sentence(plan, encoded, tmp_path, damage, words):
    damage(encoded / "180p.mp4", tmp_path / "180p.mp4")

    with pytest.raises(Transient, match=words) as refused:
        package_video(plan, plan.chunk(2), "180p", tmp_path / "180p.mp4", tmp_path)

    assert refused.value.code == "encode_failed"
    assert "180p.mp4" in refused.value.sentence


def test_f48_more_samples_than_planned_are_refused(plan, encoded, tmp_path):
    chunk = replace(plan.chunk(2), segments=2)

    with pytest.raises(Transient, match="81 samples instead of 60"):
        package_video(plan, chunk, "180p", encoded / "180p.mp4", tmp_path)


def test_f48_a_group_of_pictures_that_is_not_closed_is_refused(plan, encoded, tmp_path):
    finer = replace(plan, grid=replace(plan.grid, gop_frames=5))

    with pytest.raises(Transient, match=r"do not lie on the grid|is no IDR"):
        package_video(finer, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)


def test_f48_a_group_without_an_idr_is_refused_though_its_flags_say_sync(plan, tmp_path):
    """Recovery points instead of IDRs: x264's open groups are marked as sync samples by some muxers."""
    encode_video(plan, plan.chunk(2), tmp_path)
    data = bytearray((tmp_path / "180p.mp4").read_bytes())
    init = boxes.read_init(bytes(data))
    second = list(boxes.read_fragments(bytes(data), init))[1]
    at = next(iter(second.samples)).offset
    while data[at + 4] & 0x1F != boxes.IDR:
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    data[at + 4] = data[at + 4] & 0xE0 | 1
    (tmp_path / "180p.mp4").write_bytes(data)

    with pytest.raises(Transient, match="sample 15 begins a group of pictures and is no IDR"):
        package_video(plan, plan.chunk(2), "180p", tmp_path / "180p.mp4", tmp_path)


def test_chunks_survive_the_way_through_the_row(plan, encoded, tmp_path):
    track = package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)
    chunk = ChunkObjects(2, "hls/7/media/plan/2-token", (track,))

    assert ChunkObjects.from_json(2, json.loads(json.dumps(chunk.to_json()))) == chunk
    assert chunk.sizes()["hls/7/media/plan/2-token/180p_init.mp4"] == track.init_bytes


def test_segments_of_a_chunk_follow_each_other_without_a_gap(plan, encoded, tmp_path):
    objects = package_video(plan, plan.chunk(2), "180p", encoded / "180p.mp4", tmp_path)

    found = list(fragments(tmp_path, objects))
    for (_, before, samples), (_, after, _) in pairwise(found):
        assert before.decode_time + sum(sample.duration for sample in samples) == after.decode_time
