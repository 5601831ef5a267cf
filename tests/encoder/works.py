"""What stands for the pipeline where a job's media do not matter; a child imports these functions by their names."""

from __future__ import annotations

from appliance.encoder.job import Job
from appliance.encoder.pipeline import Published

STREAM = Published("hls/7/1-token/master.m3u8", 12.5)


def publish(job: Job) -> Published:
    """Done at once."""
    job.check()
    return STREAM


def linger(job: Job) -> Published:
    """A step without an end: what stops it is an exception of `check`."""
    job.warn("lingering")
    told = False
    while True:
        job.check()
        job.wait(0.02)
        if job._drain.asked and not told:
            job.warn("told to leave")
            told = True


def in_chunks(job: Job) -> Published:
    """Chunk after chunk, each of which takes a moment and claims to take a minute."""
    while True:
        job.may_begin(60.0)
        job.warn("a chunk")
        job.wait(0.02)


def one_more_chunk(job: Job) -> Published:
    """Waits for the drain, then asks for a step that fits."""
    job.warn("lingering")
    while True:
        job.check()
        job.wait(0.02)
        if job._drain.asked:
            job.may_begin(0.01)
            return STREAM
