"""`/etc/video-appliance.yaml` → frozen sections; every mistake at once, in English.

Every field below is a setting, its default is the default, and its type and name decide how it is read (yaml_file).
`config/video-appliance.yaml` documents each one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path

from appliance.domain.errors import ConfigError
from appliance.domain.media import DEFAULT_LADDER, LadderStep
from appliance.yaml_file import Where, YamlFile, did_you_mean

DEFAULT_PATH = "/etc/video-appliance.yaml"


@dataclass(frozen=True)
class Database:
    """`dsn` or `dsn_file` (a file that holds it, e.g. a systemd credential); exactly one is needed."""

    dsn: str = field(default="", repr=False)
    dsn_file: str = ""
    table: str = "video"
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 10.0

    def read_dsn(self) -> str:
        """The DSN, from the file where one is named. Raises ConfigError."""
        return _secret(self.dsn, self.dsn_file, "database.dsn_file")


@dataclass(frozen=True)
class Queue:
    url: str = ""
    dead_letter_url: str = ""
    fast_ack: bool = True
    wait_seconds: float = 20.0
    #: An idle encoder looks for due rows itself this often, whatever SQS says.
    poll_seconds: float = 20.0


@dataclass(frozen=True)
class Storage:
    bucket: str = ""
    source_bucket: str = ""
    prefix: str = "hls"
    gzip_playlists: bool = True


@dataclass(frozen=True)
class Aws:
    region: str = ""
    endpoint_url: str = ""
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Redis:
    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    url_file: str = ""
    timeout_seconds: float = 2.0
    progress_ttl_seconds: float = 3600.0

    def read_url(self) -> str:
        """The URL, from the file where one is named. Raises ConfigError."""
        return _secret(self.url, self.url_file, "redis.url_file")


@dataclass(frozen=True)
class Lease:
    lease_seconds: float = 180.0
    renew_seconds: float = 20.0
    chunk_lease_seconds: float = 60.0
    heartbeat_ttl_seconds: float = 60.0
    #: Added to what the process believes about its own lease before it gives up.
    grace_seconds: float = 10.0
    max_attempts: int = 5
    max_losses: int = 5
    #: How long a claim waits for a row that another transaction holds.
    locked_wait_seconds: float = 2.0


@dataclass(frozen=True)
class Reconcile:
    tick_seconds: float = 15.0
    first_ring_seconds: float = 60.0
    #: `guarded` or `strict` (drops witness and amnesty).
    heartbeat: str = "guarded"
    batch: int = 500


@dataclass(frozen=True)
class Pool:
    #: `auto` or a whole number of encoders.
    encoders: int | str = "auto"
    cores_per_encoder: float = 1.0
    memory_per_encoder_bytes: int = 1_500 * 1024**2
    drain_seconds: float = 90.0
    #: A child that said nothing for this long is killed.
    silent_seconds: float = 90.0
    boot_seconds: float = 30.0
    backoff_first_seconds: float = 1.0
    backoff_cap_seconds: float = 60.0


@dataclass(frozen=True)
class Workspace:
    directory: str = "/var/cache/video-appliance"
    min_free_bytes: int = 2 * 1024**3
    min_free_memory_bytes: int = 256 * 1024**2
    max_source_bytes: int = 64 * 1024**3


@dataclass(frozen=True)
class Ffmpeg:
    #: Empty: the programs of the installed wheels, else the `ffmpeg` and `ffprobe` on PATH.
    ffmpeg: str = ""
    ffprobe: str = ""
    #: x264 threads of each rung; the rungs of a chunk already run side by side.
    threads: int = 1
    stall_seconds: float = 120.0
    #: A step may take this many times the media's length, and never less than `min_deadline_seconds`.
    deadline_factor: float = 40.0
    min_deadline_seconds: float = 300.0
    memory_bytes: int = 4 * 1024**3
    max_pixels: int = 8192 * 8192
    max_duration_seconds: float = 12 * 3600.0


@dataclass(frozen=True)
class Sandbox:
    required: bool = False
    landlock: bool = True
    seccomp: bool = True
    readable: tuple[str, ...] = ()
    file_bytes: int = 64 * 1024**3


@dataclass(frozen=True)
class Encode:
    preset: str = "veryfast"
    ladder: tuple[LadderStep, ...] = DEFAULT_LADDER
    gop_seconds: float = 2.0
    segment_seconds: float = 6.0
    chunk_seconds: float = 60.0
    #: A picture of the storyboard this often; 0: no storyboard.
    sprite_seconds: float = 10.0


@dataclass(frozen=True)
class Web:
    #: Where `/metrics` and health are served; the status page is on loopback whatever this says.
    host: str = "0.0.0.0"  # noqa: S104 - Prometheus scrapes from another host
    port: int = 9100


@dataclass(frozen=True)
class CloudWatch:
    enabled: bool = False
    namespace: str = "Academy/Workers"
    period_seconds: float = 60.0


@dataclass(frozen=True)
class Log:
    level: str = "info"


@dataclass(frozen=True)
class Config:
    """The whole file. `path` is where it was read from."""

    database: Database = field(default_factory=Database)
    queue: Queue = field(default_factory=Queue)
    storage: Storage = field(default_factory=Storage)
    aws: Aws = field(default_factory=Aws)
    redis: Redis = field(default_factory=Redis)
    lease: Lease = field(default_factory=Lease)
    reconcile: Reconcile = field(default_factory=Reconcile)
    pool: Pool = field(default_factory=Pool)
    workspace: Workspace = field(default_factory=Workspace)
    ffmpeg: Ffmpeg = field(default_factory=Ffmpeg)
    sandbox: Sandbox = field(default_factory=Sandbox)
    encode: Encode = field(default_factory=Encode)
    web: Web = field(default_factory=Web)
    cloudwatch: CloudWatch = field(default_factory=CloudWatch)
    log: Log = field(default_factory=Log)
    path: str = field(default="", metadata={"setting": False})


def load(path: Path | str | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the file: `path`, else what VIDEO_APPLIANCE_CONFIG names, else `/etc/video-appliance.yaml`.

    Raises ConfigError with every mistake. Asks for nothing but the file: secrets are read by those who need them.
    """
    chosen = Path(path or environment.get("VIDEO_APPLIANCE_CONFIG") or DEFAULT_PATH)
    file = YamlFile(chosen)
    config: Config = file.read(Config) or Config()
    for where, sentence in inconsistencies(config):
        file.problem(where, sentence)
    fast_ack = environment.get("VIDEO_FAST_ACK")
    problems = file.problems
    if fast_ack not in (None, "0", "1"):
        problems.append("VIDEO_FAST_ACK in the environment: must be 0 or 1")
    if problems:
        raise ConfigError(problems)
    if fast_ack is not None:
        config = replace(config, queue=replace(config.queue, fast_ack=fast_ack == "1"))
    return replace(config, path=str(chosen))


def validate_for_run(config: Config) -> None:
    """What the service needs beyond a well-formed file. Raises ConfigError with everything that is missing."""
    needed = {
        "queue.url": (config.queue.url, "the SQS queue that rings for new videos"),
        "storage.bucket": (config.storage.bucket, "the bucket that takes the streams"),
        "aws.region": (config.aws.region, "the region of the queue and of the bucket"),
    }
    problems = [f"{name}: is missing: {meaning}" for name, (value, meaning) in needed.items() if not value]
    if not config.database.dsn and not config.database.dsn_file:
        problems.append("database.dsn_file: is missing: a file that holds the DSN of the platform's PostgreSQL")
    for read in (config.database.read_dsn, config.redis.read_url):
        try:
            read()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError([f"{config.path or DEFAULT_PATH}: {problem}" for problem in problems])


def _secret(value: str, path: str, name: str) -> str:
    if not path:
        return value
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"{name}: {path} cannot be read: {reason}"]) from None
    if not secret:
        raise ConfigError([f"{name}: {path} is empty"])
    return secret


#: Settings for which nothing is a sensible amount; every other number is more than zero.
MAY_BE_ZERO = frozenset(
    {"threads", "port", "crf", "grace_seconds", "locked_wait_seconds", "drain_seconds", "sprite_seconds"}
    | {"min_free_bytes", "min_free_memory_bytes"}
)
#: PostgreSQL cuts names at 63 bytes; the longest of ours adds 15 to the table's.
TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
OWN_TABLES = ("video_attempt", "video_plan", "video_chunk", "reconcile_tick")
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: What SQS allows for one long poll.
MAX_WAIT_SECONDS = 20.0
X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
LOG_LEVELS = ("debug", "info", "warning", "error")

Inconsistency = tuple[Where, str]


def inconsistencies(config: Config) -> Iterator[Inconsistency]:
    """Every setting that cannot be, by itself or beside another, and what to do about it."""
    for rule in (_numbers, _database, _queue, _storage, _addresses, _times, _pool, _sandbox, _encode, _words):
        yield from rule(config)


def _numbers(config: Config) -> Iterator[Inconsistency]:
    for section in fields(config):
        values = getattr(config, section.name)
        for setting in fields(values) if is_dataclass(values) else ():
            value = getattr(values, setting.name)
            if value == 0 and not isinstance(value, bool) and setting.name not in MAY_BE_ZERO:
                yield (section.name, setting.name), "must be more than zero"


def _database(config: Config) -> Iterator[Inconsistency]:
    if config.database.dsn and config.database.dsn_file:
        yield ("database", "dsn"), "is set beside dsn_file; keep one of them, best the file"
    table = config.database.table
    if not TABLE_NAME.fullmatch(table):
        yield ("database", "table"), "must be a plain name of at most 48 letters, digits and `_`, without a schema"
    elif table in OWN_TABLES:
        yield ("database", "table"), f"`{table}` is the name of a table that the appliance makes beside it"


def _queue(config: Config) -> Iterator[Inconsistency]:
    queue = config.queue
    if queue.wait_seconds > MAX_WAIT_SECONDS:
        yield ("queue", "wait_seconds"), "must be at most 20s, which is what SQS allows"
    if queue.url and queue.url == queue.dead_letter_url:
        yield ("queue", "dead_letter_url"), "is the queue itself; unreadable messages would come back for ever"


def _storage(config: Config) -> Iterator[Inconsistency]:
    for name in ("bucket", "source_bucket"):
        bucket = getattr(config.storage, name)
        if bucket and not BUCKET_NAME.fullmatch(bucket):
            yield ("storage", name), "must be the bare name of a bucket: 3 to 63 small letters, digits, `.` and `-`"
    prefix = config.storage.prefix
    if not prefix or prefix != prefix.strip("/") or "//" in prefix:
        yield ("storage", "prefix"), "must be a path without `/` at its ends, for example `hls`"
    if not Path(config.workspace.directory).is_absolute():
        yield ("workspace", "directory"), "must be an absolute path"
    for section, name in (("database", "dsn_file"), ("redis", "url_file")):
        file = getattr(getattr(config, section), name)
        if file and not Path(file).is_absolute():
            yield (section, name), "must be an absolute path"


def _addresses(config: Config) -> Iterator[Inconsistency]:
    http = ("http://", "https://")
    addresses = {
        ("queue", "url"): (config.queue.url, http),
        ("queue", "dead_letter_url"): (config.queue.dead_letter_url, http),
        ("aws", "endpoint_url"): (config.aws.endpoint_url, http),
        ("redis", "url"): (config.redis.url, ("redis://", "rediss://", "unix://")),
    }
    for where, (address, beginnings) in addresses.items():
        if address and not address.startswith(beginnings):
            yield where, f"must begin with {' or '.join(beginnings)}"


def _times(config: Config) -> Iterator[Inconsistency]:
    lease, renew = config.lease, config.lease.renew_seconds
    if not renew < lease.lease_seconds / 3:
        yield ("lease", "renew_seconds"), "must be under a third of lease_seconds, so that two renewals may fail"
    if not lease.heartbeat_ttl_seconds > 2 * renew:
        yield ("lease", "heartbeat_ttl_seconds"), "must be over twice renew_seconds, so that one beat may be missed"
    if not lease.chunk_lease_seconds > 2 * renew:
        yield ("lease", "chunk_lease_seconds"), "must be over twice renew_seconds, so that one renewal may fail"
    if not lease.grace_seconds < lease.lease_seconds - renew:
        yield ("lease", "grace_seconds"), "must be under lease_seconds less renew_seconds"
    if not config.database.statement_timeout_seconds < lease.lease_seconds - renew:
        yield ("database", "statement_timeout_seconds"), "must leave time to renew within lease.lease_seconds"
    if not config.redis.timeout_seconds < renew:
        yield ("redis", "timeout_seconds"), "must be under lease.renew_seconds, or a slow Redis holds up renewals"
    if not config.reconcile.tick_seconds < lease.lease_seconds:
        yield ("reconcile", "tick_seconds"), "must be under lease.lease_seconds"
    if not config.pool.silent_seconds > config.queue.wait_seconds + renew:
        yield ("pool", "silent_seconds"), "must be over queue.wait_seconds plus lease.renew_seconds: waiting is silent"


def _pool(config: Config) -> Iterator[Inconsistency]:
    pool = config.pool
    if isinstance(pool.encoders, str) and pool.encoders != "auto":
        yield ("pool", "encoders"), "must be `auto` or a whole number"
    if pool.backoff_first_seconds > pool.backoff_cap_seconds:
        yield ("pool", "backoff_first_seconds"), "must not be over backoff_cap_seconds"


def _sandbox(config: Config) -> Iterator[Inconsistency]:
    if config.sandbox.required and not (config.sandbox.landlock and config.sandbox.seccomp):
        yield ("sandbox", "required"), "wants every layer, and one of them is set to false"
    if not all(Path(path).is_absolute() and path != "/" for path in config.sandbox.readable):
        yield ("sandbox", "readable"), "must hold absolute paths of directories, and not `/`"


def _encode(config: Config) -> Iterator[Inconsistency]:
    encode = config.encode
    for larger, smaller in (("segment_seconds", "gop_seconds"), ("chunk_seconds", "segment_seconds")):
        ratio = getattr(encode, larger) / (getattr(encode, smaller) or 1.0)
        if ratio < 1 or abs(ratio - round(ratio)) > 1e-6:
            yield ("encode", larger), f"must be a whole number of times {smaller}"
    if not encode.ladder:
        yield ("encode", "ladder"), "must have at least one step"
    seen: set[int] = set()
    for number, step in enumerate(encode.ladder, start=1):
        where = ("encode", "ladder", str(number))
        if step.short_side in seen:
            yield where, f"there is another step of {step.short_side} pixels"
        if not 16 <= step.short_side <= 8192:
            yield (*where, "short_side"), "must be 16 to 8192 pixels"
        if step.crf > 51:
            yield (*where, "crf"), "must be 0 (large, lossless) to 51 (small, ugly)"
        if step.maxrate < 10_000:
            yield (*where, "maxrate"), "is in bits a second and must be at least 10k"
        seen.add(step.short_side)


def _words(config: Config) -> Iterator[Inconsistency]:
    choices = {
        ("reconcile", "heartbeat"): ("guarded", "strict"),
        ("encode", "preset"): X264_PRESETS,
        ("log", "level"): LOG_LEVELS,
    }
    for (section, name), allowed in choices.items():
        word = getattr(getattr(config, section), name)
        if word not in allowed:
            yield (section, name), f"must be one of {', '.join(allowed)}{did_you_mean(word, allowed)}"
    if not 0 <= config.web.port <= 65535:
        yield ("web", "port"), "must be a port, 1 to 65535, or 0 for any free one"
    if not config.cloudwatch.namespace or config.cloudwatch.namespace.startswith(("AWS/", ":")):
        yield ("cloudwatch", "namespace"), "must be a name that does not begin with `AWS/` or `:`"
