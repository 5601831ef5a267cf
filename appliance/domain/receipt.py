"""What a video cost: kept with every attempt, printed at the end of a job, shown by `show`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Receipt:
    """Times in seconds, sizes in bytes; CPU time is that of ffmpeg and ffprobe, children included."""

    media_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rungs: tuple[str, ...] = ()
    chunks_total: int = 0
    chunks_encoded: int = 0
    #: Found DONE from an earlier attempt.
    chunks_resumed: int = 0
    chunks_assisted: int = 0
    #: Encoded again because their proof failed.
    chunks_redone: int = 0
    ffmpeg_build: str = ""
    warnings: tuple[str, ...] = field(default=())

    def plus(self, **amounts: float) -> Receipt:
        """A receipt with these figures added (peak_memory_bytes: the larger one)."""
        peak = max(self.peak_memory_bytes, int(amounts.pop("peak_memory_bytes", 0)))
        sums = {name: getattr(self, name) + amount for name, amount in amounts.items()}
        return replace(self, peak_memory_bytes=peak, **sums)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
