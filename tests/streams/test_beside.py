"""What lies beside the HLS playlists, with something wrong in it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from appliance.domain.stored import Stored
from appliance.streams.proof import prove
from appliance.streams.texts import MANIFEST_TYPE, PLAYLIST_TYPE
from tests.streams.trees import MASTER, MEDIA, PLAYLISTS, jpeg, published

MPD, BOARD = f"{PLAYLISTS}/manifest.mpd", f"{PLAYLISTS}/storyboard.vtt"
SHEET, TEXT, POSTER = f"{MEDIA}/2-token/sprite_00001.jpg", f"{MEDIA}/3-token/text1.vtt", f"{PLAYLISTS}/poster.jpg"
SEGMENT, SOUND = f"{MEDIA}/1-token/180p_00001.m4s", f"{MEDIA}/0-token/audio_00001.m4s"


def test_a_stream_with_everything_is_proven(full_tree):
    assert full_tree.prove() == []


@pytest.mark.parametrize("key", [MPD, BOARD, SHEET, TEXT, POSTER, f"{MEDIA}/1-token/poster.jpg"])
def test_f48_whatever_is_gone_is_noticed(full_tree, key):
    assert any(finding.object == key for finding in full_tree.without(key).prove())


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"180p_00002", "180p_00003"),
        (r'\s*<SegmentURL media="[^"]*90p_00006.m4s" />', ""),
        (r"1-token/180p_init", "1-token/90p_init"),
        (r'duration="86400"', 'duration="90000"'),
        (r'timescale="90000"', 'timescale="0"'),
        (r'(id="180p" bandwidth=")\d', r"\g<1>"),
        (r'bandwidth="\d+" codecs="mp4a', 'codecs="mp4a'),
        (r'codecs="avc1.[0-9A-F]+"', 'codecs="avc1.640028"'),
        (r'width="320"', 'width="322"'),
        (r'mediaPresentationDuration="PT5.', 'mediaPresentationDuration="PT9.'),
        (r'type="static"', 'type="dynamic"'),
        (r'<Representation id="90p"', '<Representation id="91p"'),
        (r"3-token/text2.vtt", "3-token/text1.vtt"),
        (r"</MPD>", ""),
        (r"SegmentList", "SegmentTemplate"),
    ],
)
def test_f48_an_mpd_that_says_something_false_is_noticed(full_tree, pattern, replacement):
    before = full_tree.files[MPD].decode()
    after = re.sub(pattern, replacement, before)
    assert after != before

    assert full_tree.holding(MPD, after.encode()).rules() == {"manifest"}


@pytest.mark.parametrize(
    ("key", "change", "rule"),
    [
        (BOARD, lambda data: data.replace(b"xywh=160", b"xywh=0"), "storyboard"),
        (BOARD, lambda data: data.replace(b"00:00:02.000", b"00:00:02.500"), "storyboard"),
        (BOARD, lambda data: data[: data.rindex(b"\n\n")], "storyboard"),
        (BOARD, lambda data: data.replace(b"2-token", b"1-token"), "storyboard"),
        (BOARD, lambda data: data[3:], "storyboard"),
        (SHEET, lambda data: jpeg(320, 92), "pictures"),
        (SHEET, lambda data: data[:-1], "pictures"),
        (POSTER, lambda data: data + b"\xff\xd9", "pictures"),
        (POSTER, lambda data: b"GIF89a", "pictures"),
        (TEXT, lambda data: data.replace(b"00:00:03", b"00:00:00"), "subtitles"),
        (TEXT, lambda data: data.replace(b"3.000 --> 00:00:05.700", b"6.000 --> 00:00:07.000"), "subtitles"),
    ],
)
def test_f48_a_damaged_file_is_noticed(full_tree, key, change, rule):
    damaged = change(full_tree.files[key])
    assert damaged != full_tree.files[key]

    assert rule in full_tree.holding(key, damaged).rules()


def test_sheets_that_were_never_made_are_noticed(full_tree):
    rows = tuple(replace(chunk, extras=()) if chunk.number == 2 else chunk for chunk in full_tree.expected.chunks)
    lacking = published(replace(full_tree, expected=replace(full_tree.expected, chunks=rows)))

    assert "storyboard" in lacking.rules()


def delivered(tree, key: str, **heads: str) -> set[str]:
    """Rules that are broken where one object has other headers; all others have those that we write."""

    def read(name: str, span: tuple[int, int] | None) -> Stored:
        text = name.endswith((".m3u8", ".mpd", ".vtt")) and name.startswith(PLAYLISTS)
        types = {"m3u8": PLAYLIST_TYPE, "mpd": MANIFEST_TYPE, "vtt": "text/vtt", "jpg": "image/jpeg"}
        kind = types.get(name.rsplit(".", 1)[1], "audio/mp4" if "audio" in name else "video/mp4")
        age = "max-age=60" if name.startswith(PLAYLISTS) else "public, max-age=31536000, immutable"
        stored = replace(tree.read(name, span), content_type=kind, cache_control=age, content_encoding="gzip" * text)
        return replace(stored, **heads) if name == key else stored

    sizes = {name: len(data) for name, data in tree.files.items()}
    return {finding.rule for finding in prove(read, sizes, MASTER, tree.expected, readers=1)}


def test_headers_as_we_write_them_are_proven(full_tree):
    assert delivered(full_tree, "") == set()


@pytest.mark.parametrize(
    ("key", "heads"),
    [
        (MASTER, {"content_type": "binary/octet-stream"}),
        (MPD, {"content_type": "text/xml"}),
        (SEGMENT, {"content_type": ""}),
        (SOUND, {"content_type": "video/mp4"}),
        (SHEET, {"content_type": "video/mp4"}),
        (TEXT, {"content_type": "text/plain"}),
        (SEGMENT, {"cache_control": "max-age=60"}),
        (SEGMENT, {"cache_control": ""}),
        (MASTER, {"cache_control": "public, max-age=31536000, immutable"}),
        (MPD, {"cache_control": ""}),
        (MASTER, {"content_encoding": ""}),
        (SEGMENT, {"content_encoding": "gzip"}),
        (POSTER, {"content_encoding": "gzip"}),
    ],
)
def test_headers_that_caches_or_players_would_stumble_over_are_noticed(full_tree, key, heads):
    assert delivered(full_tree, key, **heads) == {"delivery"}


def test_segments_of_a_pruned_rung_are_not_read_again(full_tree):
    """Their sizes are still compared with what was recorded."""
    costly = tuple(
        replace(
            chunk,
            tracks=tuple(
                replace(t, segments=tuple(replace(s, size_bytes=9 * s.size_bytes) for s in t.segments))
                if t.track == "90p"
                else t
                for t in chunk.tracks
            ),
        )
        for chunk in full_tree.expected.chunks
    )
    third = [replace(c, tracks=(*c.tracks, *(_renamed(t) for t in c.tracks if t.track == "90p"))) for c in costly]
    assert full_tree.expected.plan.video is not None
    rungs = full_tree.expected.plan.video.rungs
    video = replace(full_tree.expected.plan.video, rungs=(rungs[0], replace(rungs[1], name="mid"), rungs[1]))
    plan = replace(full_tree.expected.plan, video=video)
    tree = published(replace(full_tree, expected=replace(full_tree.expected, plan=plan, chunks=tuple(third))))
    read: list[str] = []

    def watched(key: str, span: tuple[int, int] | None) -> Stored:
        read.append(key)
        return tree.read(key, span)

    found = prove(watched, {key: len(data) for key, data in tree.files.items()}, MASTER, tree.expected, readers=1)

    assert "mid" not in tree.text("master.m3u8")
    assert not [key for key in read if "mid" in key]
    assert {finding.rule for finding in found if "mid" in finding.object} == {"recorded-sizes"}


def _renamed(track):
    segments = tuple(replace(s, name=s.name.replace("90p", "mid")) for s in track.segments)
    return replace(track, track="mid", init_name="mid_init.mp4", segments=segments)
