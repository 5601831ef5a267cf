"""Every error of ours, sorted by its remedy.

    ApplianceError
    ├── ConfigError       → the operator edits the file; exit 78, no restart
    ├── SourceRejected    → FAILED at once; the teacher's support desk reads the sentence
    ├── Transient         → UPLOADED again with a backoff, at most `max_attempts` times
    │   └── Unavailable   → a dependency does not answer; named, retried, nothing is charged to the video
    │       └── Refused   → it answers no, and means it: waited for a minute, then charged as any Transient
    ├── UnreadableMessage → counted, dead-lettered, deleted
    └── Stopped           → the job ends here and publishes nothing
        ├── LeaseLost     → somebody else owns it now: write nothing
        │   └── ChunkLost → somebody else encodes this chunk now; the video may still be ours
        ├── Cancelled     → FAILED `cancelled`
        ├── NoRoom        → too big for this host: back to UPLOADED, due later, charged to nothing
        └── Draining      → back to UPLOADED, charged to nothing

An adapter translates its library's exceptions at its door; they are logged once, at the top.
"""

from __future__ import annotations

from appliance.domain.secrets import redacted

#: error_code → what the support desk may tell a teacher. Every code that can stand in the row is here.
ERROR_CODES: dict[str, str] = {
    "source_missing": "The uploaded file is not in storage any more.",
    "not_media": "The file is not a video or audio recording.",
    "no_media_stream": "The file holds neither a picture nor sound that can be decoded.",
    "unsupported": "The file uses a format that this system cannot decode.",
    "encrypted": "The recording is copy-protected and cannot be read.",
    "corrupt": "The recording is damaged and nothing in it can be read.",
    "too_large": "The picture or the file is larger than the operator allows.",
    "too_long": "The recording is longer than the operator allows.",
    "cancelled": "The encode was cancelled on request.",
    "crashed_encoder": "The recording made the encoder crash again and again.",
    "encode_failed": "The encoder stopped with an error.",
    "encode_stalled": "The encoder stopped making progress.",
    "proof_failed": "The finished stream was not whole and was not published.",
    "disk_full": "The encoding host ran out of disk space.",
    "source_changed": "The uploaded file was replaced while it was read.",
    "storage_unavailable": "The storage did not answer.",
    "storage_refused": "The storage does not let the appliance read the uploaded file or write the stream.",
    "internal_error": "The appliance made a mistake; its log says where.",
}

#: How a failure is remedied, for whoever counts them: another upload, another try, or a mend of ours.
CLASSES = ("rejected", "transient", "internal")
#: Codes of SourceRejected: trying again would change nothing.
REJECTED = frozenset(
    {"source_missing", "not_media", "no_media_stream", "unsupported", "encrypted", "corrupt", "too_large", "too_long"}
)


def class_of(code: str | None) -> str:
    """The class of an error_code."""
    if code in REJECTED:
        return "rejected"
    return "internal" if code in ("internal_error", None) else "transient"


class ApplianceError(Exception):
    """`code` is one of ERROR_CODES, `sentence` is what a person reads, `hint` what to do next.

    `details` are a program's own words: for the operator's log line, never for the row.
    """

    code: str = "internal_error"

    def __init__(self, sentence: str, *, code: str | None = None, hint: str = "", details: str = "") -> None:
        self.sentence, self.hint, self.details = map(redacted, (sentence, hint, details))  # rows and people see them
        super().__init__(self.sentence)
        if code is not None:
            self.code = code


class ConfigError(ApplianceError):
    """The configuration cannot be used. `problems` holds every mistake, one line each."""

    code = "configuration"

    def __init__(self, problems: list[str]) -> None:
        self.problems = [redacted(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class SourceRejected(ApplianceError):
    """This upload can never become a stream; trying again would change nothing."""

    code = "corrupt"


class Transient(ApplianceError):
    """Something that another try may well get past."""

    code = "encode_failed"


class Unavailable(Transient):
    """A dependency (`postgres`, `sqs`, `redis`, `s3`, …) did not answer."""

    code = "storage_unavailable"

    def __init__(self, dependency: str, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self.dependency = dependency


class Refused(Unavailable):
    """A policy, a key or an archive stands in the way. Only a person can mend that, so it is not tried for ever."""

    code = "storage_refused"


class UnreadableMessage(ApplianceError):
    """A message body that is not one of ours."""

    code = "unreadable_message"


class Stopped(ApplianceError):
    """The job must end now and publish nothing."""


class LeaseLost(Stopped):
    """The row's token is not ours any more."""

    code = "lease_lost"


class ChunkLost(LeaseLost):
    """The chunk's token is not ours any more."""


class Cancelled(Stopped):
    """Somebody asked for the job to end."""

    code = "cancelled"


class NoRoom(Stopped):
    """This host's disk cannot hold the job; another host's, or this one's later, may."""

    code = "no_room"


class Draining(Stopped):
    """This process is leaving; the video goes back to the queue."""

    code = "draining"
