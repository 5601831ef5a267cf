"""What the status page plots: a bounded ring of samples that reaches back as far as the supervisor is up, or a day."""

from __future__ import annotations

from dataclasses import dataclass

#: As many as a plot has pixels for. Once full, every second one goes, and the next ones lie twice as far apart.
SAMPLES = 240
DAY_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Sample:
    """`at`: Unix time. `uploaded`, `processing`: None while the database does not say."""

    at: float
    uploaded: int | None
    processing: int | None
    busy: int


class History:
    """Written by one thread; `samples` is replaced whole, so that readers need no lock."""

    def __init__(self, spacing_seconds: float) -> None:
        self.samples: tuple[Sample, ...] = ()
        self._spacing_seconds = spacing_seconds

    def add(self, sample: Sample) -> None:
        """Keep it, unless the last one is too near."""
        # a tick that comes a little early must not leave a hole
        if self.samples and sample.at - self.samples[-1].at < 0.9 * self._spacing_seconds:
            return
        kept = self.samples
        if len(kept) == SAMPLES and self._spacing_seconds * SAMPLES < DAY_SECONDS:
            kept, self._spacing_seconds = kept[1::2], 2 * self._spacing_seconds
        self.samples = (*kept[-SAMPLES + 1 :], sample)
