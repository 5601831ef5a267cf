"""What each verb prints with `--json`: one object a line, with every field of its shape and no other.

config/json.md is this file for people. Fields are added, never renamed. Sizes are bytes, durations seconds, times ISO
8601; null: not known, or not so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

from appliance.adapters.postgres.reports import Backlog
from appliance.cli.check.finding import Finding
from appliance.domain.receipt import Receipt
from appliance.domain.video import Status
from appliance.supervisor.web.shape import Page
from appliance.wiring.local import EncodeResult

Bill = Annotated[dict[str, Any], Receipt]


class Mistake(TypedDict):
    """`code`: the dependency that does not answer (69), `configuration` (78), or a word for what went wrong (1)."""

    code: str
    sentence: str
    #: What to do about it; may be empty.
    hint: str


class Failure(TypedDict):
    """Any verb that ends before it has an answer."""

    error: Mistake


class Checked(TypedDict):
    findings: list[Annotated[dict[str, Any], Finding]]


class Answer(TypedDict):
    """One dependency. `answer`: postgres the backlog, sqs its messages, redis for how long it is up, s3 nothing,
    cloudwatch (with --cloudwatch) by metric the last minute that was published.
    """

    up: bool
    answer: dict[str, Any] | None
    problem: str
    hint: str


class Point(TypedDict):
    value: float
    at: str


class Beside(TypedDict):
    """A metric: what CloudWatch holds (null: nothing of the last 15 minutes), and what a host would publish now (null:
    the database or the queue does not answer).
    """

    published: Point | None
    now: float | None


class Overview(TypedDict):
    """`service`: what the supervisor of this host says of itself, null when none answers."""

    backlog: Annotated[dict[str, Any], Backlog] | None
    #: postgres, redis, sqs and s3.
    dependencies: dict[str, Answer]
    service: Page | None
    #: By metric; null without --cloudwatch.
    cloudwatch: dict[str, Beside] | None


class Watched(TypedDict):
    service: Page | None


class Queued(TypedDict):
    """`rung` is false where SQS did not take the ring: an idle encoder finds the row, only later."""

    video_id: int
    status: Status
    rung: bool


class Listed(TypedDict):
    """A video and its last attempt (`epoch` to `receipt`; null before the first)."""

    video_id: int
    tenant_id: int | None
    status: Status
    file_key: str | None
    hls_path: str | None
    duration: float | None
    created_at: datetime | None
    error_code: str | None
    error_reason: str | None
    epoch: int | None
    host: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    receipt: Bill | None


class Attempt(TypedDict):
    """One claim. `outcome` is null while it runs."""

    epoch: int
    token: UUID
    host: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error_code: str | None
    error_reason: str | None
    receipt: Bill | None


class Piece(TypedDict):
    """A chunk of the current plan. `assisted`: by an encoder that does not own the video."""

    number: int
    state: Literal["TODO", "RUNNING", "DONE"]
    token: UUID | None
    epoch: int | None
    worker: str | None
    assisted: bool
    attempts: int
    assistant_losses: int
    leased_until: datetime | None
    started_at: datetime | None
    done_at: datetime | None


class Progress(TypedDict):
    """What the encoder wrote into Redis last; `updated_at` in Unix seconds."""

    percent: float
    step: str
    step_index: int
    step_total: int
    step_name: str
    step_percent: float
    remaining_seconds: float | None
    speed: float | None
    fps: float | None
    updated_at: float


class Shown(TypedDict):
    """The row of the platform's table with its attempts, the oldest first, and its chunks."""

    video_id: int
    tenant_id: int | None
    status: Status
    file_key: str | None
    hls_path: str | None
    duration: float | None
    priority: int
    run_after: datetime | None
    next_ring_at: datetime | None
    ring_count: int
    leased_by: str | None
    leased_until: datetime | None
    leased_at: datetime | None
    renewed_at: datetime | None
    lease_token: UUID | None
    lease_epoch: int
    failure_count: int
    loss_count: int
    error_code: str | None
    error_reason: str | None
    cancel_requested_at: datetime | None
    plan: str | None
    finished_token: UUID | None
    finished_epoch: int | None
    ready_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    attempts: list[Attempt]
    chunks: list[Piece]
    #: null unless it is PROCESSING and Redis answers.
    progress: Progress | None


class Retried(TypedDict):
    """`queued`: it waits for an encoder now. `rung` as for `submit`."""

    video_id: int
    queued: bool
    rung: bool
    sentence: str


class Cancelled(TypedDict):
    """`cancelled`: it waited; `requested`: its encoder stops within a renewal; `ignored`: it was over."""

    video_id: int
    answer: Literal["cancelled", "requested", "ignored", "unknown"]


class Reconciled(TypedDict):
    """`lines`: as printed without --json. `errors`: sentences; the status is 69 then."""

    reclaimed: int
    enqueued: int
    swept: int
    #: `lease` and `heartbeat`.
    by_reason: dict[str, int]
    dry_run: bool
    lines: list[str]
    errors: list[str]


class Drained(TypedDict):
    """`ended` is false with --no-wait."""

    pid: int
    ended: bool
    seconds: float


class Migrated(TypedDict):
    """`applied`: what this run did, in order."""

    table: str
    applied: list[str]


class Settings(TypedDict):
    """`settings` by section, secrets hidden; `origins`: `section.setting` → `file:line`, or the environment."""

    path: str
    settings: dict[str, dict[str, Any]]
    origins: dict[str, str]


class Validated(TypedDict):
    """Of a file without mistakes; else the status is 78, and `error` holds them all."""

    path: str
    problems: list[str]


class Reloaded(TypedDict):
    """Settings that changed, by when the change counts."""

    at_once: list[str]
    as_encoders_become_idle: list[str]
    supervisor_needs_restart: list[str]


Policies = TypedDict(
    "Policies",
    {
        "group-metrics": dict[str, Any],
        "target-tracking": dict[str, Any],
        "from-zero": dict[str, Any],
        "from-zero-alarm": dict[str, Any],
        "missing-data-alarm": dict[str, Any],
        "lifecycle-hook": dict[str, Any],
    },
)
Policies.__doc__ = "What each command of the AWS CLI takes as --cli-input-json."


class BrokenRule(TypedDict):
    rule: str
    source: str
    object: str
    sentence: str


class NotLookedInto(TypedDict):
    object: str
    sentence: str


class Counts(TypedDict):
    playlists: int
    segments: int
    bytes: int


class Verified(TypedDict):
    """`whole`: nothing is broken and all was looked into. What is only advice fails nothing."""

    target: str
    master: str
    whole: bool
    broken: list[BrokenRule]
    advice: list[BrokenRule]
    not_looked_into: list[NotLookedInto]
    read: Counts


class Demonstrated(TypedDict):
    """`master`: a path, empty unless READY."""

    outcome: Status
    master: str
    video_id: int
    error_code: str | None
    error_reason: str
    #: This and the next two only with --keep.
    status_page: NotRequired[str]
    player: NotRequired[str]
    #: A program that runs any verb on this very appliance.
    command: NotRequired[str]
    hls_path: str
    rungs: list[str] | None
    chunks: int | None
    receipt: Bill | None
    #: By step, in order.
    seconds: dict[str, float]


class Installed(TypedDict):
    """`ffmpeg`: its version, or why it cannot be used; the programs are null then."""

    version: str
    python: str
    ffmpeg: str
    ffmpeg_program: str | None
    ffprobe_program: str | None


#: Command line → the shape of its objects. `run` logs in JSON anyway; `config schema` prints a JSON Schema.
PRINTED: dict[str, Any] = {
    "check": Checked,
    "status": Overview,
    "top": Watched,
    "submit": Queued,
    "submit --wait": Shown,
    "list": Listed,
    "show": Shown,
    "retry": Retried,
    "cancel": Cancelled,
    "reconcile": Reconciled,
    "drain": Drained,
    "migrate": Migrated,
    "config show": Settings,
    "config validate": Validated,
    "reload": Reloaded,
    "autoscaling": Policies,
    "encode": EncodeResult,
    "verify": Verified,
    "demo": Demonstrated,
    "version": Installed,
}
