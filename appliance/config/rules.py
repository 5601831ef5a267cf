"""What cannot be, and what to do about it: every rule about the settings that their types do not hold already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.yaml_file import Where, did_you_mean

if TYPE_CHECKING:
    from appliance.config import Config

#: Settings for which nothing is a sensible amount; every other number is more than zero.
MAY_BE_ZERO = frozenset(
    {"threads", "port", "crf", "grace_seconds", "locked_wait_seconds", "drain_seconds"}
    | {"min_free_bytes", "min_free_memory_bytes", "source_cache_bytes", "sprite_seconds", "true_peak_db"}
    | {"keep_unnamed_seconds", "screen_crf"}
)
#: PostgreSQL cuts names at 63 bytes; the longest of ours adds 15 to the table's.
TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
OWN_TABLES = ("video_attempt", "video_plan", "video_chunk", "reconcile_tick")
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: boto3 makes a host's name of it.
REGION = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: What SQS allows for one long poll.
MAX_WAIT_SECONDS = 20.0
X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
X264_TUNES = ("film", "animation", "grain", "stillimage", "fastdecode")
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
    if 0 < config.storage.keep_unnamed_seconds <= config.lease.lease_seconds:
        yield ("storage", "keep_unnamed_seconds"), "must be over lease.lease_seconds, or 0 to keep everything"
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
        ("status_page", "media_base_url"): (config.status_page.media_base_url, http),
        ("fleet", "metadata_url"): (config.fleet.metadata_url, ("http://",)),
        ("redis", "url"): (config.redis.url, ("redis://", "rediss://", "unix://")),
    }
    for where, (address, beginnings) in addresses.items():
        if address and not address.startswith(beginnings):
            yield where, f"must begin with {' or '.join(beginnings)}"
    if config.aws.region and not REGION.fullmatch(config.aws.region):
        yield ("aws", "region"), "must be the name of a region, for example `eu-central-1`"
    if set("?#@'\"; ") & set(config.status_page.media_base_url):
        yield ("status_page", "media_base_url"), "must be a bare address: no password, no query, no signature, no space"


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
    if not -40 <= encode.loudness_lufs <= -5:
        yield ("encode", "loudness_lufs"), "must be -40 to -5"
    if not -12 <= encode.true_peak_db <= 0:
        yield ("encode", "true_peak_db"), "must be -12 to 0"
    for larger, smaller in (("segment_seconds", "gop_seconds"), ("chunk_seconds", "segment_seconds")):
        ratio = getattr(encode, larger) / (getattr(encode, smaller) or 1.0)
        if ratio < 1 or abs(ratio - round(ratio)) > 1e-6:
            yield ("encode", larger), f"must be a whole number of times {smaller}"
    if not -10 <= encode.screen_crf <= 10:
        yield ("encode", "screen_crf"), "is added to each rung's crf and must be -10 to 10"
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
        ("encode", "screen_preset"): ("", *X264_PRESETS),
        ("encode", "screen_tune"): ("", *X264_TUNES),
        ("log", "level"): LOG_LEVELS,
    }
    for (section, name), allowed in choices.items():
        word = getattr(getattr(config, section), name)
        if word not in allowed:
            yield (section, name), f"must be one of {', '.join(allowed)}{did_you_mean(word, allowed)}"
    if not 0 <= config.web.port <= 65535:
        yield ("web", "port"), "must be a port, 1 to 65535, or 0 for any free one"
    textfile = config.web.textfile
    if textfile and not (Path(textfile).is_absolute() and textfile.endswith(".prom")):
        yield ("web", "textfile"), "must be an absolute path that ends in .prom, or node_exporter does not read it"
    if not config.cloudwatch.namespace or config.cloudwatch.namespace.startswith(("AWS/", ":")):
        yield ("cloudwatch", "namespace"), "must be a name that does not begin with `AWS/` or `:`"
    if config.fleet.direct and not config.fleet.notices:
        sentence = "needs fleet.notices: a host that works is protected from scale-in, by the name that EC2 gives it"
        yield ("fleet", "direct"), sentence
    if config.fleet.direct and not config.fleet.group:
        yield ("fleet", "group"), "is missing: fleet.direct needs the name of the Auto Scaling group"
