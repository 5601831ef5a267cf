from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies

from appliance.streams.m3u8 import BadPlaylist, Entry, attributes, parse_master, parse_media

QUICK = settings(max_examples=100, deadline=None, database=None)
MEDIA = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init.mp4"
# a comment

#EXT-X-SOMETHING-NEW:1
#EXTINF:6.00600,a title
#EXT-X-BYTERANGE:100@20
a.m4s
#EXTINF:2,
#EXT-X-BYTERANGE:50
a.m4s
#EXTINF:1.5,
b.m4s
#EXT-X-ENDLIST
"""


def test_a_media_playlist_is_read():
    media = parse_media(MEDIA)

    assert (media.version, media.target, media.kind, media.map_uri) == (7, 6, "VOD", "init.mp4")
    assert (media.independent, media.iframes_only, media.ended) == (True, False, True)
    assert media.entries == (
        Entry("a.m4s", Fraction(6006, 1000), (100, 20), ("init.mp4", None)),
        Entry("a.m4s", Fraction(2), (50, 120), ("init.mp4", None)),
        Entry("b.m4s", Fraction(3, 2), None, ("init.mp4", None)),
    )


def test_each_segment_knows_its_init_its_key_and_whether_it_follows_on_the_one_before():
    media = parse_media(
        '#EXTM3U\n#EXT-X-MAP:URI="a",BYTERANGE="9@3"\n#EXTINF:1,\n1\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI="b"\n'
        '#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\n2\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\n3\n'
    )

    assert [entry.map for entry in media.entries] == [("a", (9, 3)), ("b", None), ("b", None)]
    assert [entry.discontinuity for entry in media.entries] == [False, True, False]
    assert [entry.closed for entry in media.entries] == [False, True, False]


def test_line_ends_of_windows_are_understood():
    assert parse_media(MEDIA.replace("\n", "\r\n")) == parse_media(MEDIA)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("#EXTM3U\n", "", "line 1"),
        ("#EXTINF:2,\n", "", "line 14: .*no EXTINF"),
        ("#EXTINF:2,", "#EXTINF:1/0,", "no EXTINF with a duration"),
        ("#EXTINF:2,", "#EXTINF:-2,", "no EXTINF with a duration"),
        ("#EXTINF:2,", "#EXTINF:1e999999,", "no EXTINF with a duration"),
        ("b.m4s\n", "", "no URI"),
        ("#EXT-X-BYTERANGE:50\na.m4s\n", "#EXT-X-BYTERANGE:50\n", "has no URI"),
        ("BYTERANGE:50", "BYTERANGE:x", "EXT-X-BYTERANGE is no whole number"),
        ("TARGETDURATION:6", "TARGETDURATION:6.5", "EXT-X-TARGETDURATION is no whole number"),
        ('URI="init.mp4"', "URI=init mp4", "EXT-X-MAP: the attribute list"),
    ],
)
def test_a_media_playlist_that_contradicts_itself_is_refused_with_its_line(before, after, words):
    assert before in MEDIA
    with pytest.raises(BadPlaylist, match=words):
        parse_media(MEDIA.replace(before, after))


def test_a_master_is_read():
    master = parse_master(
        "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="Ton, deutsch",URI="a.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001F,mp4a.40.2"\nv.m3u8\n'
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=2,URI="i.m3u8"\n'
    )

    assert (master.version, master.independent) == (1, True)
    assert master.variants[0].uri == "v.m3u8"
    assert master.variants[0].attributes == {"BANDWIDTH": "1", "CODECS": "avc1.64001F,mp4a.40.2"}
    assert master.renditions[0]["NAME"] == "Ton, deutsch"
    assert master.iframes[0]["URI"] == "i.m3u8"


@pytest.mark.parametrize(
    "lines",
    [
        ["v.m3u8"],
        ["#EXT-X-STREAM-INF:BANDWIDTH=1"],
        ["#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXT-X-STREAM-INF:BANDWIDTH=2", "v.m3u8"],
        ['#EXT-X-MEDIA:TYPE=AUDIO,NAME="open'],
        ["#EXT-X-VERSION:seven"],
    ],
)
def test_a_master_that_contradicts_itself_is_refused(lines):
    with pytest.raises(BadPlaylist):
        parse_master("\n".join(["#EXTM3U", *lines, ""]))


NAMES = strategies.from_regex(r"\A[A-Z][A-Z0-9-]{0,10}\Z")
QUOTABLE = strategies.characters(exclude_characters='"', exclude_categories=["Cc", "Cs"])
VALUES = strategies.one_of(
    strategies.from_regex(r"\A[A-Za-z0-9.x-]{1,12}\Z"),
    strategies.text(QUOTABLE, max_size=12).map(lambda text: f'"{text}"'),
)


@QUICK
@given(strategies.dictionaries(NAMES, VALUES, min_size=1, max_size=6))
def test_attribute_lists_are_read_as_they_were_written(written):
    text = ",".join(f"{name}={value}" for name, value in written.items())

    assert attributes(text, "here") == {name: value.strip('"') for name, value in written.items()}


@QUICK
@given(strategies.lists(strategies.sampled_from([*MEDIA.splitlines(), "#EXT-X-STREAM-INF:A=1", "#EXTINF", ""])))
def test_any_lines_are_read_or_refused(lines):
    text = "\n".join(["#EXTM3U", *lines])
    for parse in (parse_master, parse_media):
        with contextlib.suppress(BadPlaylist):  # and nothing else
            parse(text)
