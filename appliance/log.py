"""The log: one JSON object a line on stderr, set up once per process.

The events are a contract that operators grep. `video_id`, `tenant_id`, `request_id` and `lease_epoch` are bound for the
length of a job and stand on each of its lines (`with job_fields(video_id=7): …`); a thread that works for the job is
started with `contextvars.copy_context().run`. Secrets are taken out on the way, by key and by pattern (F49).
"""

from __future__ import annotations

import logging
import re
import sys
from contextlib import AbstractContextManager
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

#: Instead of a secret.
HIDDEN = "…"
#: A field whose name contains one of these is not written out. Lease tokens are no secrets: they open nothing.
SECRET_KEYS = ("password", "passwd", "secret", "credential", "authorization", "dsn", "session_token")
#: (what, its replacement): the passwords of URLs and of libpq's `password=…`, and the signatures of presigned requests.
SECRET_PATTERNS = (
    (re.compile(r"(://[^/\s:@]*:)\S+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(\bpassword\s*=\s*)('[^']*'|\S+)", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"([?&](?:AWSAccessKeyId|Signature)=)[^&\s\"']+"), rf"\1{HIDDEN}"),
)


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send this process's log to `stream` (stderr), from `level` on: debug, info, warning or error.

    What libraries say through `logging`, and Python's warnings, come out the same way, from `warning` on.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            hide_secrets,
            _headline_first,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)


def job_fields(**fields: object) -> AbstractContextManager[None]:
    """Put these fields on every line that this thread logs inside the `with`."""
    return structlog.contextvars.bound_contextvars(**fields)


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: replaces secrets, however deep they lie."""
    return {key: HIDDEN if _is_secret(key) else _without_secrets(value) for key, value in event.items()}


def _is_secret(key: object) -> bool:
    return any(word in str(key).lower() for word in SECRET_KEYS)


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {key: HIDDEN if _is_secret(key) else _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    for pattern, replacement in SECRET_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _headline_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When, how bad, what: the first words of every line."""
    return {**{key: event.pop(key, "") for key in ("time", "level", "event")}, **event}


class _Libraries(logging.Handler):
    """Takes what libraries log into our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )
