from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings, strategies

from appliance.streams import boxes
from appliance.streams.boxes import BadBoxes, Box, Init, Sample, pack

QUICK = settings(max_examples=60, deadline=None, database=None)
INIT = Init(1, 30000, "avc1.64001F", 320, 180, 0, 4, (7, 11, boxes.NOT_SYNC))
TFHD_BITS = [
    *[boxes.BASE_DATA_OFFSET, boxes.DESCRIPTION_INDEX],
    *[boxes.DEFAULT_DURATION, boxes.DEFAULT_SIZE, boxes.DEFAULT_FLAGS],
]
TRUN_BITS = [
    *[boxes.FIRST_FLAGS, boxes.EACH_DURATION, boxes.EACH_SIZE, boxes.EACH_FLAGS, boxes.EACH_COMPOSITION],
]
U16 = strategies.integers(1, 65535)
OFFSETS = strategies.integers(-(2**31), 2**31 - 1)


def full(kind: bytes, version: int, flags: int, *words: bytes) -> bytes:
    return pack(kind, struct.pack(">I", version << 24 | flags), *words)


def read(data: bytes, init: Init = INIT):
    return [(fragment, list(fragment.samples)) for fragment in boxes.read_fragments(data, init)]


@QUICK
@given(
    rows=strategies.lists(strategies.tuples(U16, OFFSETS), min_size=1, max_size=20),
    sequence=strategies.integers(0, 2**32 - 1),
    decode_time=strategies.integers(0, boxes.LATEST - 1),
    duration=U16,
    video=strategies.booleans(),
)
def test_a_fragment_that_was_written_is_read_back(rows, sequence, decode_time, duration, video):
    samples = [Sample(0, size, 0, 0, composition if video else 0, 0) for size, composition in rows]
    head = boxes.fragment_head(
        samples, sequence=sequence, track_id=1, decode_time=decode_time, duration=duration, video=video
    )

    ((fragment, found),) = read(head + bytes(sum(sample.size for sample in samples)))

    assert (fragment.start, fragment.body, fragment.sequence) == (0, len(head), sequence)
    assert [(s.size, s.composition) for s in found] == [(s.size, s.composition) for s in samples]
    assert [s.decode_time for s in found] == [decode_time + duration * n for n in range(len(found))]
    assert found[0].flags == boxes.SYNC
    assert {s.flags for s in found[1:]} <= {boxes.NOT_SYNC if video else boxes.SYNC}


@QUICK
@given(
    tfhd_bits=strategies.sets(strategies.sampled_from(TFHD_BITS)),
    trun_bits=strategies.sets(strategies.sampled_from(TRUN_BITS)),
    wide=strategies.booleans(),
)
def test_every_combination_of_flags_is_understood(tfhd_bits, trun_bits, wide):
    """Two runs of two samples; what a run does not say comes from tfhd, else from trex (ISO/IEC 14496-12 §8.8)."""

    def fragment(base: int, data_offset: int) -> bytes:
        fields = [
            (boxes.BASE_DATA_OFFSET, struct.pack(">Q", base)),
            (boxes.DESCRIPTION_INDEX, struct.pack(">I", 1)),
            (boxes.DEFAULT_DURATION, struct.pack(">I", 20)),
            (boxes.DEFAULT_SIZE, struct.pack(">I", 21)),
            (boxes.DEFAULT_FLAGS, struct.pack(">I", 22)),
        ]
        tfhd = full(b"tfhd", 0, sum(tfhd_bits), struct.pack(">I", 1), *(v for bit, v in fields if bit in tfhd_bits))
        each = [
            (boxes.EACH_DURATION, ">I", 30),
            (boxes.EACH_SIZE, ">I", 31),
            (boxes.EACH_FLAGS, ">I", 32),
            (boxes.EACH_COMPOSITION, ">i" if wide else ">I", -33 if wide else 33),
        ]
        rows = b"".join(struct.pack(layout, value) for bit, layout, value in each if bit in trun_bits) * 2
        first = struct.pack(">I", 40) if boxes.FIRST_FLAGS in trun_bits else b""
        runs = []
        for number in range(2):
            bits = sum(trun_bits) | (0 if number else boxes.DATA_OFFSET)
            where = b"" if number else struct.pack(">i", data_offset)
            runs.append(full(b"trun", int(wide), bits, struct.pack(">I", 2), where, first, rows))
        tfdt = full(b"tfdt", int(wide), 0, struct.pack(">Q" if wide else ">I", 1000))
        return pack(b"moof", full(b"mfhd", 0, 0, struct.pack(">I", 9)), pack(b"traf", tfhd, tfdt, *runs))

    size = 31 if boxes.EACH_SIZE in trun_bits else 21 if boxes.DEFAULT_SIZE in tfhd_bits else 11
    length = len(fragment(0, 0))
    based = boxes.BASE_DATA_OFFSET in tfhd_bits
    styp = pack(b"styp", b"msdh", bytes(4))
    moof = fragment(len(styp) + length if based else 0, 8 if based else length + 8)
    data = styp + moof + pack(b"mdat", bytes(4 * size))

    ((found, samples),) = read(data)

    duration = 30 if boxes.EACH_DURATION in trun_bits else 20 if boxes.DEFAULT_DURATION in tfhd_bits else 7
    flags = 32 if boxes.EACH_FLAGS in trun_bits else 22 if boxes.DEFAULT_FLAGS in tfhd_bits else boxes.NOT_SYNC
    first = 40 if boxes.FIRST_FLAGS in trun_bits else flags
    composition = 0 if boxes.EACH_COMPOSITION not in trun_bits else -33 if wide else 33
    assert (found.start, found.end, found.sequence, found.decode_time) == (len(styp), len(data), 9, 1000)
    assert [sample.offset for sample in samples] == [found.body + n * size for n in range(4)]
    assert [sample.flags for sample in samples] == [first, flags, first, flags]
    assert [sample.decode_time for sample in samples] == [1000 + n * duration for n in range(4)]
    assert {(s.size, s.duration, s.composition) for s in samples} == {(size, duration, composition)}


def test_a_box_may_have_a_long_size_or_reach_to_the_end():
    long = struct.pack(">I4sQ", 1, b"mdat", 20) + b"four"
    last = struct.pack(">I4s", 0, b"mdat") + b"rest"

    assert list(boxes.walk(long + last)) == [Box(b"mdat", 0, 16, 20), Box(b"mdat", 20, 28, 32)]


@pytest.mark.parametrize(
    ("audio", "codec"),
    [(b"\x11\x90", "mp4a.40.2"), (b"\x2b\x92", "mp4a.40.5"), (b"\xf9\x50", "mp4a.40.42")],
    ids=["AAC-LC", "HE-AAC", "xHE-AAC"],
)
@pytest.mark.parametrize("stream_flags", [0x00, 0x80, 0x40, 0x20, 0xE0])
@pytest.mark.parametrize("padding", [b"", b"\x80\x80\x80"])
def test_the_codec_of_sound_is_read_from_its_descriptors(audio, codec, stream_flags, padding):
    """The lengths take one byte or four (ISO/IEC 14496-1 §8.3.3)."""

    def descriptor(tag: int, body: bytes) -> bytes:
        return bytes([tag]) + padding + bytes([len(body)]) + body

    optional = (b"\0\1" if stream_flags & 0x80 else b"") + (b"\x03url" if stream_flags & 0x40 else b"")
    optional += b"\0\2" if stream_flags & 0x20 else b""
    decoder = descriptor(4, b"\x40\x15" + bytes(11) + descriptor(5, audio))
    esds = full(b"esds", 0, 0, descriptor(3, b"\0\1" + bytes([stream_flags]) + optional + decoder))
    entry = pack(b"mp4a", bytes(16) + struct.pack(">HHHHI", 2, 16, 0, 0, 48000 << 16), esds)

    init = boxes.read_init(movie(entry))

    assert (init.codec, init.channels, init.width, init.timescale) == (codec, 2, 0, 48000)


def movie(entry: bytes, *, version: int = 0) -> bytes:
    times = bytes(16 if version else 8)
    tkhd = full(b"tkhd", version, 3, times, struct.pack(">I", 5))
    mdhd = full(b"mdhd", version, 0, times, struct.pack(">I", 48000))
    stsd = full(b"stsd", 0, 0, struct.pack(">I", 1), entry)
    hdlr = full(b"hdlr", 0, 0, bytes(4), b"soun" if entry[4:8] == b"mp4a" else b"vide")
    trak = pack(b"trak", tkhd, pack(b"mdia", mdhd, hdlr, pack(b"minf", pack(b"stbl", stsd))))
    trex = full(b"trex", 0, 0, struct.pack(">IIIII", 5, 1, 1024, 3, 4))
    return pack(b"moov", trak, pack(b"mvex", trex))


@pytest.mark.parametrize("version", [0, 1])
def test_an_init_is_read_with_short_and_long_times(version):
    avcc = pack(b"avcC", b"\x01\x4d\x40\x1e\xff")
    entry = pack(b"avc1", bytes(24) + struct.pack(">HH", 640, 360) + bytes(50), avcc)

    init = boxes.read_init(movie(entry, version=version))

    assert init == Init(5, 48000, "avc1.4D401E", 640, 360, 0, 4, (1024, 3, 4))


def test_a_codec_that_is_not_ours_is_refused():
    with pytest.raises(BadBoxes, match="neither H"):
        boxes.read_init(movie(pack(b"hvc1", bytes(78))))


def test_a_moof_without_its_mdat_is_refused():
    data = boxes.fragment_head(
        [Sample(0, 4, 0, 0, 0, 0)], sequence=1, track_id=1, decode_time=0, duration=1, video=False
    )

    with pytest.raises(BadBoxes, match="has no mdat"):
        read(data[:-8])


def test_a_decode_time_of_the_year_4000_is_refused():
    head = boxes.fragment_head(
        [Sample(0, 4, 0, 0, 0, 0)], sequence=1, track_id=1, decode_time=2**63, duration=1, video=False
    )

    with pytest.raises(BadBoxes, match="absurd"):
        read(head + bytes(4))


@QUICK
@given(data=strategies.binary(max_size=200), init=strategies.booleans())
def test_any_bytes_are_read_or_refused(data, init):
    with contextlib.suppress(BadBoxes):  # and nothing else
        boxes.read_init(data) if init else read(data)


def test_pictures_are_walked_by_their_nal_units():
    aud, sei, idr, slice_ = (b"\x09\x10", b"\x06\x05", b"\x65\x88", b"\x41\x9a")

    def types(*units: bytes, extra: bytes = b"") -> list[int]:
        data = b"".join(struct.pack(">I", len(unit)) + unit for unit in units) + extra
        return boxes.nal_types(b"before" + data, Sample(6, len(data), 1, 0, 0, 0), 4)

    assert types(aud, sei, idr) == [9, 6, 5]
    assert boxes.is_idr(types(aud, sei, idr, idr))
    assert not boxes.is_idr(types(aud, slice_, idr))
    assert not boxes.is_idr(types(aud))
    for damaged in ({"extra": b"\0\0"}, {"extra": b"\0\0\0\0"}, {"extra": b"\0\0\0\x09late"}):
        with pytest.raises(BadBoxes, match="whole NAL units"):
            types(idr, **damaged)
    with pytest.raises(BadBoxes, match="whole NAL units"):
        types(idr + bytes(3) + b"\x80")
