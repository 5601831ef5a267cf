"""The log: one JSON object a line on stderr, set up once per process.

The events are a contract that operators grep. `video_id`, `tenant_id`, `request_id` and `lease_epoch` are bound for the
length of a job and stand on each of its lines (`with job_fields(video_id=7): …`); a thread that works for the job is
started with `contextvars.copy_context().run`. Secrets are taken out on the way, by key, by pattern and by value (F49).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from appliance.domain.secrets import HIDDEN, is_secret, without_secrets


def configure(level: str = "info", stream: TextIO | None = None, secrets: Iterable[str] = ()) -> None:
    """Send this process's log to `stream` (stderr), from `level` on: debug, info, warning or error.

    What libraries say through `logging`, and Python's warnings, come out the same way, from `warning` on. `secrets` are
    values that no line may hold, besides those that look like secrets.
    """
    known = tuple(secrets)

    def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: HIDDEN if is_secret(key) else without_secrets(value, known) for key, value in event.items()}

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


def _headline_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When, how bad, what: the first words of every line."""
    return {**{key: event.pop(key, "") for key in ("time", "level", "event")}, **event}


def catch_all() -> None:
    """Exceptions that nobody caught, in any thread, become lines as well: for a process that is ours alone."""
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    structlog.get_logger().error("UNCAUGHT", exc_info=(kind, error, trace))


class _Libraries(logging.Handler):
    """Takes what libraries log into our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
        )
