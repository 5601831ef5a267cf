"""ISO base media files (ISO/IEC 14496-12), as much as one track in fragments needs: read, and write a fragment.

Works on anything indexable by bytes, a mapped file included; samples are yielded one by one, so that twelve hours of
sound in a single fragment need no memory. Whatever contradicts itself raises BadBoxes with a sentence.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

Buffer = bytes | mmap.mmap

#: tfhd (§8.8.7) and trun (§8.8.8) flags.
BASE_DATA_OFFSET, DESCRIPTION_INDEX, DEFAULT_DURATION, DEFAULT_SIZE, DEFAULT_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
DEFAULT_BASE_IS_MOOF = 0x020000
DATA_OFFSET, FIRST_FLAGS, EACH_DURATION, EACH_SIZE, EACH_FLAGS, EACH_COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
#: Sample flags (§8.8.3.1): depends on no other; depends on others and is no sync sample; the bit that says the latter.
SYNC, NOT_SYNC, NO_SYNC_BIT = 0x0200_0000, 0x0101_0000, 0x0001_0000
#: Bytes before the child boxes of a sample entry (§12.1.3, §12.2.3), its own header not counted.
VIDEO_ENTRY_BYTES, AUDIO_ENTRY_BYTES = 78, 28
#: Sample entries of H.264 (ISO/IEC 14496-15 §5.4.2.1).
AVC = (b"avc1", b"avc3")
#: No decode time is this late, in ticks: three thousand years at 90 kHz.
LATEST = 1 << 53
#: H.264 NAL unit types (ITU-T H.264 table 7-1): the slices of a picture, and the slice of an IDR picture.
SLICES, IDR = range(1, 6), 5


class BadBoxes(ValueError):
    """These bytes are not the file they should be."""


class Box(NamedTuple):
    """A box in a buffer: header at `start`, payload from `body` to `end`."""

    kind: bytes
    start: int
    body: int
    end: int


@dataclass(frozen=True)
class Init:
    """What moov says of a track. `width` and `height` are 0 for sound, `channels` is 0 for pictures."""

    track_id: int
    timescale: int
    #: RFC 6381, from the bytes of avcC or esds; of other formats only the sample entry's four characters.
    codec: str
    width: int
    height: int
    channels: int
    #: Bytes of the length before each NAL unit; 0 for sound.
    nal_length_bytes: int
    #: trex: duration, size and flags of a sample that says nothing itself.
    defaults: tuple[int, int, int]

    @property
    def known(self) -> bool:
        """Whether its codec could be read to the end."""
        return "." in self.codec


class Sample(NamedTuple):
    """One picture or one frame of sound; times in ticks, `offset` in the buffer."""

    offset: int
    size: int
    duration: int
    flags: int
    composition: int
    decode_time: int


class Fragment(NamedTuple):
    """One moof and its mdat: they begin at `start`, the samples' bytes lie from `body` to `end`."""

    start: int
    body: int
    end: int
    sequence: int
    decode_time: int
    samples: Iterable[Sample]


def walk(data: Buffer, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes that follow each other between two offsets."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = _fields(data, ">I4s", start)
        body = start + 8
        if size == 1:
            (size,), body = _fields(data, ">Q", body), body + 8
        stop = end if size == 0 else start + size
        if not body <= stop <= end:
            raise BadBoxes(f"the box {kind.decode('latin-1')} at byte {start} reaches past its end")
        yield Box(kind, start, body, stop)
        start = stop


def find(data: Buffer, parent: Box, *path: bytes) -> Box:
    """The first box of these kinds, each inside the one before."""
    for kind in path:
        box = next((child for child in walk(data, parent.body, parent.end) if child.kind == kind), None)
        if box is None:
            raise BadBoxes(f"there is no {kind.decode()} in its {parent.kind.decode('latin-1')}")
        parent = box
    return parent


def _fields(data: Buffer, layout: str, offset: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except struct.error as error:
        raise BadBoxes(f"it ends within a box, at byte {len(data)}") from error


def _number(data: Buffer, layout: str, offset: int) -> int:
    return int(_fields(data, f">{layout}", offset)[0])


def _versioned(data: Buffer, box: Box) -> tuple[int, int]:
    """Version and flags of a full box (§4.2)."""
    word = _number(data, "I", box.body)
    return word >> 24, word & 0xFFFFFF


def read_init(data: Buffer) -> Init:
    """The first track of an init segment (or of the head of a fragmented file), which must be H.264 or AAC."""
    init = read_inits(data)[0]
    if not init.known:
        raise BadBoxes("its samples are neither H.264 (avc1) nor AAC (mp4a)")
    return init


def read_inits(data: Buffer) -> list[Init]:
    """Every track of an init segment, at least one."""
    moov = find(data, Box(b"file", 0, 0, len(data)), b"moov")
    mvex = find(data, moov, b"mvex")
    trexes = {_number(data, "I", box.body + 4): box for box in walk(data, mvex.body, mvex.end) if box.kind == b"trex"}
    found = [_init(data, box, trexes) for box in walk(data, moov.body, moov.end) if box.kind == b"trak"]
    if not found:
        raise BadBoxes("there is no trak in its moov")
    return found


def _init(data: Buffer, trak: Box, trexes: dict[int, Box]) -> Init:
    tkhd, mdhd = find(data, trak, b"tkhd"), find(data, trak, b"mdia", b"mdhd")
    stsd = find(data, trak, b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(walk(data, stsd.body + 8, stsd.end), None)
    track_id = _number(data, "I", tkhd.body + (20 if _versioned(data, tkhd)[0] else 12))
    timescale = _number(data, "I", mdhd.body + (20 if _versioned(data, mdhd)[0] else 12))
    if entry is None or track_id not in trexes:
        raise BadBoxes("a track has no sample entry or no trex")
    if not timescale:
        raise BadBoxes("its mdhd counts no ticks a second")
    values = [_number(data, "I", trexes[track_id].body + at) for at in (12, 16, 20)]
    hdlr = find(data, trak, b"mdia", b"hdlr").body
    handler = data[hdlr + 8 : hdlr + 12]
    config = _config(data, entry)
    return Init(
        track_id=track_id,
        timescale=timescale,
        codec=_codec(data, entry, config),
        width=_number(data, "H", entry.body + 24) if handler == b"vide" else 0,
        height=_number(data, "H", entry.body + 26) if handler == b"vide" else 0,
        channels=_number(data, "H", entry.body + 16) if handler == b"soun" else 0,
        nal_length_bytes=(_number(data, "B", config + 4) & 3) + 1 if entry.kind in AVC else 0,
        defaults=(values[0], values[1], values[2]),
    )


def _config(data: Buffer, entry: Box) -> int:
    """Where avcC or esds begins; 0 for other formats."""
    if entry.kind not in {*AVC, b"mp4a"}:
        return 0
    children = entry._replace(body=entry.body + (VIDEO_ENTRY_BYTES if entry.kind in AVC else AUDIO_ENTRY_BYTES))
    return find(data, children, b"avcC" if entry.kind in AVC else b"esds").body


def _codec(data: Buffer, entry: Box, config: int) -> str:
    if entry.kind == b"mp4a":
        return _aac_codec(data, config)
    name = entry.kind.decode("latin-1")
    return f"{name}.{_avc_parameters(data, config)}" if entry.kind in AVC else name


def _avc_parameters(data: Buffer, config: int) -> str:
    """Profile, constraints and level in hexadecimal (RFC 6381 §3.3)."""
    return f"{_number(data, 'I', config) & 0xFFFFFF:06X}"


def _aac_codec(data: Buffer, config: int) -> str:
    """Object type indication and audio object type (RFC 6381 §3.3; descriptors of ISO/IEC 14496-1 §7.2.6)."""
    stream = _descriptor(data, config + 4, 3)
    flags = _number(data, "B", stream + 2)
    optional = (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
    if flags & 0x40:
        optional += 1 + _number(data, "B", stream + 3 + (2 if flags & 0x80 else 0))
    decoder = _descriptor(data, stream + 3 + optional, 4)
    specific = _number(data, "H", _descriptor(data, decoder + 13, 5))
    kind = specific >> 11
    kind = 32 + (specific >> 5 & 0x3F) if kind == 31 else kind
    return f"mp4a.{_number(data, 'B', decoder):02X}.{kind}"


def _descriptor(data: Buffer, offset: int, tag: int) -> int:
    """Where the payload of the descriptor begins; its length takes one to four bytes."""
    if _number(data, "B", offset) != tag:
        raise BadBoxes(f"its esds has no descriptor {tag}")
    offset += 1
    while _number(data, "B", offset) & 0x80:
        offset += 1
    return offset + 1


def read_fragments(data: Buffer, init: Init) -> Iterator[Fragment]:
    """Every moof that holds something of the track, with its samples, which are read when they are asked for."""
    moof = None
    for box in walk(data):
        if box.kind == b"moof":
            moof = box
        elif box.kind == b"mdat" and moof is not None:
            traf = _traf(data, moof, init)
            if traf:
                yield _fragment(data, moof, traf, box, init)
            moof = None
    if moof is not None:
        raise BadBoxes(f"the moof at byte {moof.start} has no mdat")


def _traf(data: Buffer, moof: Box, init: Init) -> Box | None:
    """The part of the moof that belongs to the track."""
    parts = [box for box in walk(data, moof.body, moof.end) if box.kind == b"traf"]
    if not parts:
        raise BadBoxes("there is no traf in its moof")
    return next((box for box in parts if _number(data, "I", find(data, box, b"tfhd").body + 4) == init.track_id), None)


def _fragment(data: Buffer, moof: Box, traf: Box, mdat: Box, init: Init) -> Fragment:
    mfhd = find(data, moof, b"mfhd")
    tfdt = find(data, traf, b"tfdt")
    decode_time = _number(data, "Q" if _versioned(data, tfdt)[0] else "I", tfdt.body + 4)
    if decode_time >= LATEST:
        raise BadBoxes(f"the decode time of the moof at byte {moof.start} is absurd")
    samples = _samples(data, traf, mdat, decode_time, _track_defaults(data, moof, traf, init))
    return Fragment(moof.start, mdat.body, mdat.end, _number(data, "I", mfhd.body + 4), decode_time, samples)


def _samples(
    data: Buffer, traf: Box, mdat: Box, decode_time: int, defaults: tuple[int, int, int, int]
) -> Iterator[Sample]:
    base = offset = defaults[0]
    for run in walk(data, traf.body, traf.end):
        if run.kind != b"trun":
            continue
        flags = _versioned(data, run)[1]
        if flags & DATA_OFFSET:
            offset = base + _number(data, "i", run.body + 8)
        for duration, size, kind, composition in _run(data, run, defaults[1:]):
            if not mdat.body <= offset < offset + size <= mdat.end:
                raise BadBoxes(f"a sample at byte {offset} is empty or lies outside the mdat at byte {mdat.start}")
            yield Sample(offset, size, duration, kind, composition, decode_time)
            offset += size
            decode_time += duration


def _track_defaults(data: Buffer, moof: Box, traf: Box, init: Init) -> tuple[int, int, int, int]:
    """Where data offsets count from, and duration, size, flags of a sample that says nothing: tfhd, else trex."""
    tfhd = find(data, traf, b"tfhd")
    flags, at = _versioned(data, tfhd)[1], tfhd.body + 8
    base, values = moof.start, list(init.defaults)
    if flags & BASE_DATA_OFFSET:
        base, at = _number(data, "Q", at), at + 8
    at += 4 if flags & DESCRIPTION_INDEX else 0
    for place, bit in enumerate((DEFAULT_DURATION, DEFAULT_SIZE, DEFAULT_FLAGS)):
        if flags & bit:
            values[place], at = _number(data, "I", at), at + 4
    return base, values[0], values[1], values[2]


def _run(data: Buffer, run: Box, defaults: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """(duration, size, flags, composition offset) of each sample of a trun."""
    version, flags = _versioned(data, run)
    at = run.body + 8 + (4 if flags & DATA_OFFSET else 0)
    first = _number(data, "I", at) if flags & FIRST_FLAGS else None
    at += 4 if flags & FIRST_FLAGS else 0
    present = [bool(flags & bit) for bit in (EACH_DURATION, EACH_SIZE, EACH_FLAGS, EACH_COMPOSITION)]
    row = struct.Struct(">" + "I" * sum(present[:3]) + ("i" if version else "I") * present[3])
    count = _number(data, "I", run.body + 4)
    if at + count * row.size > run.end:
        raise BadBoxes(f"the trun at byte {run.start} is shorter than its {count} samples")
    for number in range(count):
        said = iter(row.unpack_from(data, at + number * row.size))
        duration, size, kind = (next(said) if here else value for here, value in zip(present, defaults, strict=False))
        composition = next(said) if present[3] else 0
        yield duration, size, first if first is not None and number == 0 else kind, composition


def nal_types(data: Buffer, sample: Sample, length_bytes: int) -> list[int]:
    """Types of the NAL units of a sample, whose lengths must fill it exactly.

    No NAL unit holds three zero bytes in a row (H.264 §7.4.1): where they stand, a page was lost on the way.
    """
    types: list[int] = []
    at, end = sample.offset, sample.offset + sample.size
    while at < end or not types:
        body = at + length_bytes
        at = body + int.from_bytes(data[at:body], "big")
        if not body < at <= end or data.find(b"\0\0\0", body, at) >= 0:
            raise BadBoxes(f"the picture at byte {sample.offset} is not made of whole NAL units")
        types.append(data[body] & 0x1F)
    return types


def is_idr(types: Iterable[int]) -> bool:
    """Whether a picture of these NAL units is an IDR: its first slice says so (H.264 §7.4.1.2.4)."""
    return next((kind for kind in types if kind in SLICES), 0) == IDR


def clean_init(data: Buffer) -> bytes:
    """The ftyp and moov as they are, without edit lists and user data, and with no time of creation."""
    whole = Box(b"file", 0, 0, len(data))
    ftyp = find(data, whole, b"ftyp")
    return data[ftyp.start : ftyp.end] + _cleaned(data, find(data, whole, b"moov"))


def _cleaned(data: Buffer, box: Box) -> bytes:
    if box.kind in {b"edts", b"udta"}:
        return b""
    if box.kind in {b"mvhd", b"tkhd", b"mdhd"}:
        times = 16 if _versioned(data, box)[0] else 8
        return data[box.start : box.body + 4] + bytes(times) + data[box.body + 4 + times : box.end]
    if box.kind in {b"moov", b"trak", b"mdia"}:
        return pack(box.kind, *(_cleaned(data, child) for child in walk(data, box.body, box.end)))
    return data[box.start : box.end]


def pack(kind: bytes, *parts: bytes) -> bytes:
    """A box of these parts."""
    size = 8 + sum(map(len, parts))
    return struct.pack(">I4s", size, kind) + b"".join(parts)


def fragment_head(
    samples: list[Sample], *, sequence: int, track_id: int, decode_time: int, duration: int | None, video: bool
) -> bytes:
    """A moof and the header of the mdat that holds `samples` in this order, each `duration` ticks (or its own) long.

    Of pictures the first is a sync sample and no other; `composition` counts from the decode time written here.
    """
    each = duration is None
    width = (8 if video else 4) + (4 if each else 0)
    tfhd_flags = DEFAULT_BASE_IS_MOOF | DEFAULT_DURATION | DEFAULT_FLAGS
    trun_flags = DATA_OFFSET | EACH_SIZE | (FIRST_FLAGS | EACH_COMPOSITION if video else 0)
    trun_flags |= EACH_DURATION if each else 0
    trun_bytes = 8 + 12 + (4 if video else 0) + width * len(samples)
    moof_bytes = 8 + 16 + 8 + 24 + 20 + trun_bytes
    columns = [*(["duration"] if each else []), "size", *(["composition"] if video else [])]
    rows = [getattr(sample, column) for sample in samples for column in columns]
    trun = pack(
        b"trun",
        struct.pack(">IIi", 1 << 24 | trun_flags, len(samples), moof_bytes + 8),
        struct.pack(">I", SYNC) if video else b"",
        struct.pack(">" + ("I" * each + "I" + "i" * video) * len(samples), *rows),
    )
    tfhd = pack(b"tfhd", struct.pack(">IIII", tfhd_flags, track_id, duration or 0, NOT_SYNC if video else SYNC))
    tfdt = pack(b"tfdt", struct.pack(">IQ", 1 << 24, decode_time))
    moof = pack(b"moof", pack(b"mfhd", struct.pack(">II", 0, sequence)), pack(b"traf", tfhd, tfdt, trun))
    assert len(moof) == moof_bytes, "the data offset was computed for another moof"
    return moof + struct.pack(">I4s", 8 + sum(sample.size for sample in samples), b"mdat")
