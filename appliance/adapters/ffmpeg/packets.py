"""What a demuxer says of a file: when its packets are shown, and where a decoder can begin."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction

#: A last packet that claims to last longer than this is not believed.
LONGEST_LAST_FRAME_SECONDS = 10
#: What an unsigned number of `array` holds at least.
LARGEST_BYTES = (1 << 32) - 1
#: ffmpeg's own bounds of a clock that jumps (`dts_delta_threshold`, ts_discontinuity_detect): seconds ahead and back.
JUMP_AHEAD, JUMP_BACK = Fraction(10), Fraction(1, 10)


@dataclass
class Packets:
    """The packet times of one stream, in its time base, in the order of the file."""

    time_base: Fraction
    times: list[int] = field(default_factory=list)
    #: Their bytes.
    sizes: array[int] = field(default_factory=lambda: array("I"))
    last_end: int = 0
    #: How often the stream's own clock goes backwards.
    backwards: int = 0
    #: The longest that a picture is decoded before it is shown.
    reorder: int = 0
    #: The most packets from one key frame to the next.
    longest_gop: int = 0
    last_decode: int | None = None
    _last_step: int = 0
    _since_key: int = 0

    def add(self, pts: int | None, dts: int | None, length: int, flags: str, size: int = 0) -> None:
        """One packet; those that an edit list cuts off (`D`) are not part of the presentation."""
        if dts is not None:
            self._step(dts)
        start = dts if pts is None else pts
        if "D" in flags or start is None:
            return
        if dts is not None:
            self.reorder = max(self.reorder, start - dts)
        self._since_key = 1 if "K" in flags else self._since_key + 1
        self.longest_gop = max(self.longest_gop, self._since_key)
        if length * self.time_base > LONGEST_LAST_FRAME_SECONDS:
            length = 0
        self.times.append(start)
        self.sizes.append(size)
        self.last_end = max(self.last_end, start + length) if len(self.times) > 1 else start + length

    def _step(self, dts: int) -> None:
        if self.last_decode is not None:
            self._last_step = dts - self.last_decode
            self.backwards += self._last_step < 0
        self.last_decode = dts

    def jump(self, dts: int) -> int:
        """How far this packet's time is from where it should be, 0 when that is no jump of the clock."""
        if self.last_decode is None:
            return 0
        away = dts - self.last_decode - max(0, self._last_step)
        ahead, back = away * self.time_base > JUMP_AHEAD, (self.last_decode - dts) * self.time_base > JUMP_BACK
        return away if ahead or back else 0

    @property
    def start_seconds(self) -> Fraction:
        return min(self.times) * self.time_base

    @property
    def end_seconds(self) -> Fraction:
        return max(self.last_end, *self.times) * self.time_base


@dataclass
class Demuxed:
    """All streams of a file. With `mend`, jumps of the clock are taken out as ffmpeg takes them out when it decodes."""

    streams: dict[int, Packets]
    mend: bool = False
    #: Seconds that are added to every time.
    offset: Fraction = Fraction(0)

    def take(self, line: str) -> None:
        """One CSV line of ffprobe: stream, pts, dts, duration, size, flags."""
        fields = line.split(",")
        if len(fields) < 6 or not fields[0].isdigit() or int(fields[0]) not in self.streams:
            return
        packets = self.streams[int(fields[0])]
        pts, dts, length, size = (_whole(text) for text in fields[1:5])
        if self.mend and dts is not None:
            shift = round(self.offset / packets.time_base)
            away = packets.jump(dts + shift)
            self.offset -= away * packets.time_base
            pts, dts = pts if pts is None else pts + shift - away, dts + shift - away
        packets.add(pts, dts, length or 0, fields[5], min(size or 0, LARGEST_BYTES))


def _whole(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdigit() else None
