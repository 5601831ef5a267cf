"""How far a video's encode is: media seconds out, pace, and what remains. Telemetry only, never in the database."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.domain.plan import Chunk, Mode, Plan

#: (fraction of the chunks' frames done, media seconds per second, seconds remaining, the running chunk's number)
Report = Callable[[float, float | None, float | None, int], None]


class Meter:
    """Counts grid frames of the chunks that are done and of the one that is running.

    Where there are pictures only they count: sound and texts have as many frames and take next to no time.
    """

    def __init__(self, plan: Plan, report: Report) -> None:
        self._rate = float(plan.grid.rate)
        counts = {it.number: it.pictures if plan.video else it.mode is Mode.SOUND for it in plan.chunks}
        self._frames = {it.number: it.frames if counts[it.number] else 0 for it in plan.chunks}
        self._total = sum(self._frames.values())
        self._finished: set[int] = set()
        self._resumed = 0
        self._report = report
        self._started = time.monotonic()
        self._pace: float | None = None

    def learn(self, done: set[int]) -> None:
        """These chunks are DONE, whoever encoded them."""
        self._finished |= done

    def start(self) -> None:
        """What is done from now on tells the pace."""
        self._resumed = self._done

    @property
    def _done(self) -> int:
        return sum(self._frames[number] for number in self._finished)

    def move(self, chunk: Chunk, seconds: float) -> None:
        """The running chunk has `seconds` of media out."""
        frames = self._done + min(self._frames[chunk.number], seconds * self._rate)
        elapsed = time.monotonic() - self._started
        fresh = frames - self._resumed
        remaining = elapsed * (self._total - frames) / fresh if fresh > 0 else None
        speed = seconds and fresh / self._rate / elapsed
        self._report(frames / self._total, speed or None, remaining, chunk.number)

    def finish(self, chunk: Chunk, wall_seconds: float) -> None:
        """The running chunk is encoded; its pace is the estimate for the next one."""
        self._finished.add(chunk.number)
        if frames := self._frames[chunk.number]:
            self._pace = wall_seconds / (frames / self._rate)

    def expected_seconds(self, chunk_frames: int) -> float | None:
        """Wall seconds a chunk of so many frames will take; None before one was seen."""
        return None if self._pace is None else self._pace * chunk_frames / self._rate
