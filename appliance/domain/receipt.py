"""What a video cost: kept with every attempt, printed at the end of a job, shown by `show`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

#: A receipt keeps this many warnings, each cut: it travels through a pipe and stands in a row.
WARNINGS = 20
WARNING_CHARACTERS = 200


@dataclass(frozen=True)
class Chapter:
    """A chapter mark of the source, in seconds of the presentation."""

    start_seconds: float
    end_seconds: float
    title: str


class Cost(Protocol):
    """What a chunk's row says it cost (streams.segments.Cost)."""

    @property
    def cpu_seconds(self) -> float: ...
    @property
    def peak_memory_bytes(self) -> int: ...
    @property
    def media_seconds(self) -> float: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...


@dataclass(frozen=True)
class Whole:
    """What the finished stream cost: its chunks, whoever encoded them and when, and what the last attempt did besides.

    What died attempts did in vain is in nobody's figures.
    """

    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rung_seconds: float = 0.0


@dataclass(frozen=True)
class Receipt:
    """One attempt. Times in seconds, sizes in bytes; CPU time is that of ffmpeg and ffprobe, children included."""

    media_seconds: float = 0.0
    wall_seconds: float = 0.0
    #: Of the wall time, by step.
    step_seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    #: The part of cpu_seconds that made no chunk: probing.
    overhead_cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    source_bytes: int = 0
    #: Fetched from storage for this attempt; nothing when the host had the source already.
    bytes_in: int = 0
    bytes_out: int = 0
    #: Seconds of media that were encoded, each track counted.
    rung_seconds: float = 0.0
    rungs: tuple[str, ...] = ()
    chunks_total: int = 0
    chunks_encoded: int = 0
    #: Begun for an earlier attempt.
    chunks_resumed: int = 0
    #: Encoded for this attempt by encoders that did not own the video.
    chunks_assisted: int = 0
    #: Encoded again because their proof failed.
    chunks_redone: int = 0
    #: What x264 was tuned for, `camera` or `screen`, and what was measured.
    content: str = ""
    content_reason: str = ""
    #: Of the grid, in each rung; those dropped repeat the one before, which stays on screen instead.
    frames: int = 0
    frames_dropped: int = 0
    ffmpeg_build: str = ""
    warnings: tuple[str, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    #: Known once the stream is whole.
    video: Whole | None = None

    def plus(self, **amounts: float) -> Receipt:
        """A receipt with these figures added (peak_memory_bytes: the larger one)."""
        peak = max(self.peak_memory_bytes, int(amounts.pop("peak_memory_bytes", 0)))
        sums = {name: getattr(self, name) + amount for name, amount in amounts.items()}
        return replace(self, peak_memory_bytes=peak, **sums)

    def plus_chunk(self, cost: Cost) -> Receipt:
        """With what this attempt spent on one chunk."""
        return self.plus(
            cpu_seconds=cost.cpu_seconds,
            peak_memory_bytes=cost.peak_memory_bytes,
            rung_seconds=cost.media_seconds,
        )

    def warned(self, *sentences: str) -> Receipt:
        """With these warnings, each once."""
        cut = (sentence[:WARNING_CHARACTERS] for sentence in sentences)
        return replace(self, warnings=tuple(dict.fromkeys((*self.warnings, *cut)))[:WARNINGS])

    def finished(self, costs: Iterable[Cost]) -> Receipt:
        """With the whole stream's figures: what its chunks cost, and what this attempt did besides."""
        found = list(costs)
        whole = Whole(
            cpu_seconds=self.overhead_cpu_seconds + sum(cost.cpu_seconds for cost in found),
            peak_memory_bytes=max([self.peak_memory_bytes, *(cost.peak_memory_bytes for cost in found)]),
            bytes_in=self.bytes_in + sum(cost.bytes_in for cost in found),
            bytes_out=sum(cost.bytes_out for cost in found),
            rung_seconds=sum(cost.media_seconds for cost in found),
        )
        return replace(self, video=whole)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
