from __future__ import annotations

from fractions import Fraction

from appliance.domain.plan import Plan
from appliance.streams import hls
from appliance.streams.presentation import Presentation
from appliance.streams.segments import ChunkObjects, Gop, Segment, TrackObjects
from tests.streams.trees import plan_of

PREFIX = "hls/7/media/plan"
PLAYLISTS = "hls/7/1-attempt"
MASTER = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Audio",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,\
CHANNELS="2",URI="audio.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=575266,AVERAGE-BANDWIDTH=495346,CODECS="avc1.64000D,mp4a.40.2",\
RESOLUTION=320x180,FRAME-RATE=29.970,CLOSED-CAPTIONS=NONE,AUDIO="audio"
180p.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=255585,AVERAGE-BANDWIDTH=255585,CODECS="avc1.64000D,mp4a.40.2",\
RESOLUTION=160x90,FRAME-RATE=29.970,CLOSED-CAPTIONS=NONE,AUDIO="audio"
90p.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=15985,AVERAGE-BANDWIDTH=15985,CODECS="avc1.64000D",\
RESOLUTION=320x180,URI="180p_iframes.m3u8"
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=15985,AVERAGE-BANDWIDTH=15985,CODECS="avc1.64000D",\
RESOLUTION=160x90,URI="90p_iframes.m3u8"
"""


def objects(name: str, scale: int, codec: str, size: tuple[int, int], segments: tuple[Segment, ...]) -> TrackObjects:
    return TrackObjects(name, scale, codec, *size, f"{name}_init.mp4", 700, "ab", segments)


def segment(name: str, size_bytes: int, gop_ticks: int, iframe_bytes: int, gops: int = 2) -> Segment:
    parts = tuple(Gop(n * size_bytes // gops, iframe_bytes, gop_ticks) for n in range(gops))
    return Segment(name, size_bytes, gop_ticks * gops, 0, parts)


def rung(name: str, size: tuple[int, int], first: int, sizes: list[int]) -> TrackObjects:
    pieces = tuple(segment(f"{name}_{first + n:05d}.m4s", bytes_, 15015, 1000) for n, bytes_ in enumerate(sizes))
    return objects(name, 30000, "avc1.64000D", size, pieces)


def two_chunks() -> tuple[Plan, list[ChunkObjects]]:
    plan = plan_of(Fraction(30000, 1001), Fraction(4004, 1000))
    first = (rung("180p", (320, 180), 1, [50_000, 60_000, 40_000]), rung("90p", (160, 90), 1, [20_000] * 3))
    second = (rung("180p", (320, 180), 4, [50_000]), rung("90p", (160, 90), 4, [20_000]))
    sizes = [47, 47, 47, 47]
    sound = tuple(segment(f"audio_{n:05d}.m4s", 12_000, 1024 * m, 300, 1) for n, m in enumerate(sizes, start=1))
    return plan, [
        ChunkObjects(2, f"{PREFIX}/2-b", second),
        ChunkObjects(0, f"{PREFIX}/0-a", (objects("audio", 48000, "mp4a.40.2", (0, 0), sound),)),
        ChunkObjects(1, f"{PREFIX}/1-c", first),
    ]


def playlists(plan: Plan, chunks: list[ChunkObjects]) -> dict[str, str]:
    return hls.playlists(Presentation.of(plan, chunks, PLAYLISTS))


def test_the_master_says_what_every_rung_costs_and_holds():
    plan, chunks = two_chunks()

    # 60 kB in 1.001 s and 12 kB in 47 AAC frames are the peak; 200 kB and 48 kB in all, the average
    assert playlists(plan, chunks)["master.m3u8"] == MASTER


def test_media_playlists_name_the_segments_of_all_chunks_in_order():
    plan, chunks = two_chunks()

    assert playlists(plan, chunks)["180p.m3u8"] == (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-MAP:URI="../media/plan/1-c/180p_init.mp4"\n'
        "#EXTINF:1.001000,\n../media/plan/1-c/180p_00001.m4s\n"
        "#EXTINF:1.001000,\n../media/plan/1-c/180p_00002.m4s\n"
        "#EXTINF:1.001000,\n../media/plan/1-c/180p_00003.m4s\n"
        "#EXTINF:1.001000,\n../media/plan/2-b/180p_00004.m4s\n"
        "#EXT-X-ENDLIST\n"
    )


def test_iframe_playlists_name_the_first_picture_of_every_group():
    plan, chunks = two_chunks()

    text = playlists(plan, chunks)["90p_iframes.m3u8"]

    assert "#EXT-X-I-FRAMES-ONLY\n" in text
    assert text.count("#EXTINF:0.500500,\n") == 8
    assert "#EXT-X-BYTERANGE:1000@10000\n../media/plan/2-b/90p_00004.m4s\n" in text


def test_one_name_for_each_track_of_the_plan():
    plan, chunks = two_chunks()

    assert set(playlists(plan, chunks)) == {
        *{"master.m3u8", "audio.m3u8", "180p.m3u8", "90p.m3u8"},
        *{"180p_iframes.m3u8", "90p_iframes.m3u8"},
    }


def test_without_sound_no_group_is_named():
    plan = plan_of(Fraction(30000, 1001), Fraction(3), audio=False)
    _, chunks = two_chunks()

    master = playlists(plan, [c for c in chunks if c.number])["master.m3u8"]

    assert "AUDIO" not in master
    assert 'CODECS="avc1.64000D",' in master


def test_sound_alone_is_one_variant_without_a_picture():
    plan = plan_of(Fraction(25), Fraction(4), video=False)
    _, chunks = two_chunks()

    assert playlists(plan, [c for c in chunks if not c.number])["master.m3u8"].splitlines()[3:] == [
        '#EXT-X-STREAM-INF:BANDWIDTH=95745,AVERAGE-BANDWIDTH=95745,CODECS="mp4a.40.2"',
        "audio.m3u8",
    ]
