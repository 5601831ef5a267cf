"""(counts, error) → Decision: whether a failed video is tried again, and when."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.domain.errors import ERROR_CODES, ApplianceError, SourceRejected

#: First wait; each further one is four times as long, up to the cap.
FIRST_BACKOFF_SECONDS = 30.0
BACKOFF_FACTOR = 4.0
BACKOFF_CAP_SECONDS = 3600.0
#: A wait is spread by ± this share, so that a fleet's retries do not arrive together.
JITTER = 0.1


@dataclass(frozen=True)
class Decision:
    """`retry_in_seconds` is None when the video goes to FAILED."""

    error_code: str
    error_reason: str
    retry_in_seconds: float | None


def backoff_seconds(failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure (1, 2, …); `jitter` is uniform in [-1, 1]."""
    wait = min(FIRST_BACKOFF_SECONDS * BACKOFF_FACTOR ** (failures - 1), BACKOFF_CAP_SECONDS)
    return wait * (1 + JITTER * jitter)


def decide(error: ApplianceError, *, failure_count: int, max_attempts: int, jitter: float) -> Decision:
    """`failure_count` is the row's, before this failure."""
    code = error.code if error.code in ERROR_CODES else "internal_error"
    failures = failure_count + 1
    if isinstance(error, SourceRejected) or failures >= max_attempts:
        return Decision(code, error.sentence, None)
    return Decision(code, error.sentence, backoff_seconds(failures, jitter))
