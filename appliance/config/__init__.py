"""`/etc/video-appliance.yaml` → frozen sections; every mistake at once, in English.

Every field below is a setting, its default is the default, and its type and name decide how it is read (yaml_file).
`config/video-appliance.yaml` documents each one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from appliance.config.rules import inconsistencies
from appliance.domain.errors import ConfigError
from appliance.domain.media import DEFAULT_LADDER, LadderStep
from appliance.yaml_file import YamlFile

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
    keep_unnamed_seconds: float = 86400.0


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
    #: Sources kept on the host for its other slots and for another attempt; those in use are never removed.
    source_cache_bytes: int = 20 * 1024**3


@dataclass(frozen=True)
class Ffmpeg:
    #: Empty: the programs of the installed wheels, else the `ffmpeg` and `ffprobe` on PATH.
    ffmpeg: str = ""
    ffprobe: str = ""
    #: Of the decoder, the filters and each rung's x264; the rungs of a chunk already run side by side.
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
    #: Frames that only repeat the one before are not encoded, where the source says that there are many.
    drop_repeats: bool = True
    #: Of recordings of screens; an empty preset or tune is that of all others, `screen_crf` is added to each rung's.
    screen_preset: str = ""
    screen_tune: str = ""
    screen_crf: float = 0.0
    ladder: tuple[LadderStep, ...] = DEFAULT_LADDER
    gop_seconds: float = 2.0
    segment_seconds: float = 6.0
    chunk_seconds: float = 60.0
    #: A picture of the storyboard this often; 0: no storyboard.
    sprite_seconds: float = 10.0
    #: A hole in the timestamps of picture and sound alike that is longer is closed.
    close_gaps_seconds: float = 60.0
    loudness: bool = True
    loudness_lufs: float = -16.0
    true_peak_db: float = -1.5


@dataclass(frozen=True)
class Web:
    #: Where `/metrics` and health are served; the status page is on loopback whatever this says.
    host: str = "0.0.0.0"  # noqa: S104 - Prometheus scrapes from another host
    port: int = 9100
    textfile: str = ""


@dataclass(frozen=True)
class StatusPage:
    media_base_url: str = ""


@dataclass(frozen=True)
class CloudWatch:
    enabled: bool = False
    namespace: str = "Academy/Workers"
    period_seconds: float = 60.0


@dataclass(frozen=True)
class Fleet:
    #: The Auto Scaling group that this host belongs to.
    group: str = ""
    direct: bool = False
    stable_zero_seconds: float = 1200.0
    parameter: str = "/video-appliance/zero-since"
    #: EC2 is asked whether it takes this host away; with `group`, the host is protected from scale-in while it works.
    notices: bool = False
    drain_on_rebalance: bool = False
    lifecycle_hook: str = "video-drain"
    metadata_url: str = "http://169.254.169.254"


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
    status_page: StatusPage = field(default_factory=StatusPage)
    cloudwatch: CloudWatch = field(default_factory=CloudWatch)
    fleet: Fleet = field(default_factory=Fleet)
    log: Log = field(default_factory=Log)
    path: str = field(default="", metadata={"setting": False})


@dataclass(frozen=True)
class Loaded:
    """`origins`: `section.setting` → `file:line` or `environment …`; what is not in it has its default."""

    config: Config
    origins: dict[str, str]


def load(path: Path | str | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the file: `path`, else what VIDEO_APPLIANCE_CONFIG names, else `/etc/video-appliance.yaml`.

    Raises ConfigError with every mistake. Asks for nothing but the file: secrets are read by those who need them.
    """
    return read(path, environment).config


def read(path: Path | str | None = None, environment: Mapping[str, str] = os.environ) -> Loaded:
    """As `load`, with where each value comes from."""
    loaded, problems = inspect(path, environment)
    if problems or loaded is None:
        raise ConfigError(problems)
    return loaded


def inspect(
    path: Path | str | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[Loaded | None, list[str]]:
    """What can be read, with defaults for what is wrong, and every mistake. None: nothing can be read."""
    chosen = Path(path or environment.get("VIDEO_APPLIANCE_CONFIG") or DEFAULT_PATH)
    file = YamlFile(chosen)
    try:
        config: Config = file.read(Config) or Config()
    except ConfigError as error:
        return None, error.problems
    for where, sentence in inconsistencies(config):
        file.problem(where, sentence)
    fast_ack = environment.get("VIDEO_FAST_ACK")
    problems = file.problems
    if fast_ack not in (None, "0", "1"):
        problems.append("VIDEO_FAST_ACK in the environment: must be 0 or 1")
    origins = {".".join(where): f"{chosen}:{line}" for where, line in file.lines.items() if len(where) == 2}
    if fast_ack is not None:
        config = replace(config, queue=replace(config.queue, fast_ack=fast_ack == "1"))
        origins["queue.fast_ack"] = "environment VIDEO_FAST_ACK"
    return Loaded(replace(config, path=str(chosen)), origins), problems


def validate_for_run(config: Config) -> None:
    """What the service needs beyond a well-formed file. Raises ConfigError with everything that is missing."""
    if problems := missing(config):
        place = config.path or DEFAULT_PATH
        raise ConfigError([f"{place}: {name}: {sentence}" for name, sentence in problems.items()])


def missing(config: Config) -> dict[str, str]:
    """The same: setting → what is wrong with it."""
    needed = {
        "queue.url": (config.queue.url, "the SQS queue that rings for new videos"),
        "storage.bucket": (config.storage.bucket, "the bucket that takes the streams"),
        "aws.region": (config.aws.region, "the region of the queue and of the bucket"),
        "database.dsn_file": (
            config.database.dsn or config.database.dsn_file,
            "a file that holds the DSN of the platform's PostgreSQL",
        ),
    }
    found = {name: f"is missing: {meaning}" for name, (value, meaning) in needed.items() if not value}
    for read in (config.database.read_dsn, config.redis.read_url):
        try:
            read()
        except ConfigError as error:
            found |= dict(problem.split(": ", 1) for problem in error.problems)
    return found


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
