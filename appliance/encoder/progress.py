"""Where a job is, said in the five steps that people see, and what it has cost so far."""

from __future__ import annotations

from appliance.adapters.ffmpeg.run import Ended
from appliance.domain.events import STEPS
from appliance.encoder.ports import Job

#: Share of a video's percentage that the chunks take; the rest is fetching before and proving after.
ENCODE_FROM, ENCODE_TO = 3.0, 95.0


def report(job: Job, step: str, percent: float) -> None:
    """A step without a pace of its own."""
    job.progress(percent, step, step_index=STEPS.index(step) + 1, step_total=len(STEPS), step_percent=0.0)


def report_encode(job: Job, fraction: float, speed: float | None, remaining: float | None, chunk: int) -> None:
    """The chunks: the fraction of their frames that is out, the pace in media seconds a second, the seconds left."""
    job.progress(
        ENCODE_FROM + (ENCODE_TO - ENCODE_FROM) * fraction,
        "encode",
        step_index=STEPS.index("encode") + 1,
        step_total=len(STEPS),
        step_percent=100 * fraction,
        speed=speed,
        remaining_seconds=remaining,
        chunk=chunk,
    )


def account(job: Job, ended: Ended) -> None:
    """Put what a program used that made no chunk onto the receipt."""
    job.receipt = job.receipt.plus(
        cpu_seconds=ended.cpu_seconds,
        overhead_cpu_seconds=ended.cpu_seconds,
        peak_memory_bytes=ended.peak_memory_bytes,
    )
