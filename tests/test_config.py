from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from appliance.config import Config, load, validate_for_run
from appliance.config.rules import X264_PRESETS
from appliance.domain.errors import ConfigError
from appliance.domain.media import LadderStep

REFERENCE = Path(__file__).parents[1] / "config/video-appliance.yaml"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "appliance.yaml"
        path.write_text(text)
        return path

    return write


def problems(path: Path, **environment: str) -> list[str]:
    """What is wrong with the file, each without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(path, environment)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def settings() -> list[tuple[str, str]]:
    config = Config()
    return [
        (section.name, setting.name)
        for section in fields(config)
        if is_dataclass(values := getattr(config, section.name))
        for setting in fields(values)
    ]


def test_the_reference_holds_the_defaults() -> None:
    assert load(REFERENCE, {}) == replace(Config(), path=str(REFERENCE))


@pytest.mark.parametrize(("section", "setting"), settings())
def test_every_setting_is_in_the_reference_and_documented(section: str, setting: str) -> None:
    """By a comment right above it, or after it on its line."""
    text = REFERENCE.read_text()
    block = re.search(rf"^{section}:\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    assert block, f"no section {section}"
    lines = block[1].splitlines()
    number = next((n for n, line in enumerate(lines) if line.startswith(f"  {setting}:")), None)
    assert number is not None, f"{section}.{setting} is not in {REFERENCE.name}"
    assert lines[number - 1].startswith("  # ") or " # " in lines[number], f"{section}.{setting} has no comment"


def test_an_empty_file_and_empty_sections_mean_the_defaults(write: Write) -> None:
    assert load(write(""), {}) == replace(Config(), path=str(write("")))
    path = write("database:\nlease:\n  renew_seconds:\n")
    assert load(path, {}) == replace(Config(), path=str(path))


def test_times_sizes_and_bitrates_take_units(write: Write) -> None:
    config = load(
        write(
            "lease: {lease_seconds: 4m, renew_seconds: 2500ms, heartbeat_ttl_seconds: 90}\n"
            "workspace: {min_free_bytes: 1.5GiB, max_source_bytes: 2MB, min_free_memory_bytes: 0}\n"
            "ffmpeg: {max_duration_seconds: 1h}\n"
            "pool: {encoders: 3, cores_per_encoder: 1.5}\n"
            "encode:\n  ladder:\n    - {short_side: 480, crf: 22.5, maxrate: 1.2M}\n"
        ),
        {},
    )
    assert (config.lease.lease_seconds, config.lease.renew_seconds) == (240, 2.5)
    assert config.lease.heartbeat_ttl_seconds == 90
    assert (config.workspace.min_free_bytes, config.workspace.max_source_bytes) == (3 * 2**29, 2_000_000)
    assert config.ffmpeg.max_duration_seconds == 3600
    assert (config.pool.encoders, config.pool.cores_per_encoder) == (3, 1.5)
    assert config.encode.ladder == (LadderStep(480, 22.5, 1_200_000),)


def test_f40_all_mistakes_are_told_at_once_each_with_its_line(write: Write) -> None:
    path = write(
        "databse: {}\n"
        "database:\n"
        "  tabel: x\n"
        "  connect_timeout_seconds: 5sec\n"
        "lease:\n"
        "  max_attempts: 1.5\n"
        "  max_losses: -1\n"
        "pool: many\n"
        "queue:\n"
        "  fast_ack: 1\n"
        "  poll_seconds: true\n"
        "  wait_seconds: [1]\n"
        "encode:\n"
        "  preset: veryfst\n"
        "  ladder:\n"
        "    - {short_side: 480, crf: 22}\n"
        "    - 360\n"
        "storage:\n"
        "  prefix: a\n"
        "  prefix: b\n"
        "workspace:\n"
        "  min_free_bytes: 2gib\n"
    )
    units = "must be a number with one of the units"
    assert problems(path) == [
        "1: databse: there is no such setting; did you mean `database`?",
        "3: database.tabel: there is no such setting; did you mean `table`?",
        f"4: database.connect_timeout_seconds: {units} ms, s, m, h, d, not `5sec`; did you mean `s`?",
        "6: lease.max_attempts: must be a whole number, not `1.5`",
        "7: lease.max_losses: must not be negative",
        "8: pool: must hold settings, each `name: value`, indented, on a line of its own",
        "10: queue.fast_ack: must be `true` or `false`, not `1`",
        "11: queue.poll_seconds: must be a number, not `true`",
        "12: queue.wait_seconds: must be one value, not a list",
        f"14: encode.preset: must be one of {', '.join(X264_PRESETS)}; did you mean `veryfast`?",
        "16: encode.ladder.1.maxrate: is missing",
        "17: encode.ladder.2: must hold settings, each `name: value`, indented, on a line of its own",
        "19: storage.prefix: is set twice, on line 19 and on line 20",
        f"22: workspace.min_free_bytes: {units} B, KiB, MiB, GiB, TiB, MB, GB, not `2gib`; did you mean `GiB`?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lease: {renew_seconds: 60s}", "lease.renew_seconds: must be under a third of lease_seconds"),
        ("lease: {heartbeat_ttl_seconds: 40s}", "lease.heartbeat_ttl_seconds: must be over twice renew_seconds"),
        ("lease: {chunk_lease_seconds: 40s}", "lease.chunk_lease_seconds: must be over twice renew_seconds"),
        ("lease: {grace_seconds: 160s}", "lease.grace_seconds: must be under"),
        ("database: {statement_timeout_seconds: 160s}", "database.statement_timeout_seconds: must leave time"),
        ("redis: {timeout_seconds: 20s}", "redis.timeout_seconds: must be under lease.renew_seconds"),
        ("reconcile: {tick_seconds: 3m}", "reconcile.tick_seconds: must be under lease.lease_seconds"),
        ("pool: {silent_seconds: 40s}", "pool.silent_seconds: must be over queue.wait_seconds plus"),
        ("queue: {wait_seconds: 21}", "queue.wait_seconds: must be at most 20s"),
        ("queue: {url: http://q, dead_letter_url: http://q}", "queue.dead_letter_url: is the queue itself"),
        ("queue: {url: my-queue}", "queue.url: must begin with http:// or https://"),
        ("redis: {url: localhost}", "redis.url: must begin with redis:// or rediss:// or unix://"),
        ("aws: {endpoint_url: localhost}", "aws.endpoint_url: must begin with"),
        ('database: {table: "a b"}', "database.table: must be a plain name"),
        ("database: {table: public.video}", "database.table: must be a plain name"),
        ("database: {table: video; drop table video}", "database.table: must be a plain name"),
        ("database: {table: video_chunk}", "database.table: `video_chunk` is the name of a table that"),
        ("database: {dsn: a, dsn_file: /b}", "database.dsn: is set beside dsn_file"),
        ("database: {dsn_file: b}", "database.dsn_file: must be an absolute path"),
        ("redis: {url_file: b}", "redis.url_file: must be an absolute path"),
        ("aws: {region: Frankfurt am Main}", "aws.region: must be the name of a region"),
        ("storage: {bucket: s3://b}", "storage.bucket: must be the bare name of a bucket"),
        ("storage: {prefix: /hls}", "storage.prefix: must be a path without `/` at its ends"),
        ("workspace: {directory: scratch}", "workspace.directory: must be an absolute path"),
        ("pool: {encoders: four}", "pool.encoders: must be `auto` or a whole number"),
        ("pool: {encoders: 0}", "pool.encoders: must be more than zero"),
        ("pool: {backoff_first_seconds: 2m}", "pool.backoff_first_seconds: must not be over backoff_cap_seconds"),
        ("encode: {segment_seconds: 5s}", "encode.segment_seconds: must be a whole number of times gop_seconds"),
        ("encode: {chunk_seconds: 3s}", "encode.chunk_seconds: must be a whole number of times segment_seconds"),
        ("encode: {gop_seconds: 0}", "encode.gop_seconds: must be more than zero"),
        ("encode: {ladder: []}", "encode.ladder: must have at least one step"),
        ("encode: {ladder: {short_side: 480}}", "encode.ladder: must be a list, each item on a line of its own"),
        ("encode: {ladder: [{short_side: 8, crf: 1, maxrate: 1M}]}", "encode.ladder.1.short_side: must be 16 to 8192"),
        ("encode: {ladder: [{short_side: 480, crf: 52, maxrate: 1M}]}", "encode.ladder.1.crf: must be 0"),
        ("encode: {ladder: [{short_side: 480, crf: 22, maxrate: 4}]}", "encode.ladder.1.maxrate: is in bits a second"),
        (
            "encode: {ladder: [{short_side: 9, crf: 1, maxrate: 1M}, {short_side: 9, crf: 1, maxrate: 1M}]}",
            "encode.ladder.2: there is another step of 9 pixels",
        ),
        ("reconcile: {heartbeat: lax}", "reconcile.heartbeat: must be one of guarded, strict"),
        ("log: {level: warn}", "log.level: must be one of debug, info, warning, error; did you mean `warning`?"),
        ("web: {port: 70000}", "web.port: must be a port"),
        ("cloudwatch: {namespace: AWS/Mine}", "cloudwatch.namespace: must be a name that does not begin with"),
        ("fleet: {group: hosts, direct: true}", "fleet.direct: needs fleet.notices"),
        ("fleet: {metadata_url: 169.254.169.254}", "fleet.metadata_url: must begin with http://"),
        ("path: /etc/passwd", "path: there is no such setting"),
        ("<<: {a: b}", "<<: there is no such setting"),
        ("? [a, b]\n: c", "…: there is no such setting"),
    ],
)
def test_f40_what_cannot_be_is_refused_with_the_remedy(write: Write, text: str, problem: str) -> None:
    assert any(found.startswith(f"1: {problem}") for found in problems(write(text)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lease:\n  a: [1\nb: 2\n", "is not YAML"),
        ("lease:\n\trenew_seconds: 3\n", "2: is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("[" * 20_000, "is nested too deeply"),
        ("{a: " * 20_000, "is nested too deeply"),
        ("- " * 20_000, "is nested too deeply"),
        ("#" * 300_000, "is larger than 256 KiB"),
        ("- a\n- b\n", "must hold settings"),
        ("just words", "must hold settings"),
    ],
    ids=lambda value: value[:20],
)
def test_f40_a_file_that_is_no_configuration_is_refused(write: Write, text: str, problem: str) -> None:
    (found,) = problems(write(text))
    assert problem in found


def test_f40_a_file_that_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "appliance.yaml"
    path.write_bytes(b"lease:\n  \xff\xfe\n")
    assert problems(path) == ["2: is not UTF-8 text"]


def test_f40_a_missing_file_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml")[0].startswith(
        " cannot be read: No such file or directory; `sudo ./install.sh`"
    )


def test_tags_make_no_objects(write: Write) -> None:
    found = problems(write("log: {level: !!python/object/apply:os.getcwd []}\n"))
    assert found == ["1: log.level: must be one value, not a list"]


@pytest.mark.parametrize(
    "text",
    [
        "database: {dsn: 'postgresql://u:hunter2@h/d', dsn_file: x}",
        "database: {dns: 'postgresql://u:hunter2@h/d'}",
        "database: postgresql://u:hunter2@h/d",
        "redis: {url: 'http://:hunter2@h'}",
        "redis: {timeout_seconds: 'redis://:hunter2@h'}",
        "queue: {fast_ack: 'redis://:hunter2@h'}",
        "database: {dsn: *hunter2 }",
        "database: {dsn: 'hunter2}",
        "database: {dsn: hunter2: x}",
        "storage: {bucket: 'hunter2@@'}",
    ],
)
def test_f49_a_secret_in_the_file_is_not_repeated_in_the_problems(write: Write, text: str) -> None:
    assert "hunter2" not in "\n".join(problems(write(text)))


def test_f49_a_configuration_shows_no_secret_when_printed(write: Write) -> None:
    config = load(write("database: {dsn: 'postgresql://u:hunter2@h/d'}\nredis: {url: 'redis://:hunter2@h'}\n"), {})
    assert "hunter2" not in repr(config)
    assert config.database.read_dsn() == "postgresql://u:hunter2@h/d"


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True)])
def test_the_environment_overrides_fast_ack(write: Write, value: str, expected: bool) -> None:
    path = write(f"queue: {{fast_ack: {str(not expected).lower()}}}")
    assert load(path, {"VIDEO_FAST_ACK": value}).queue.fast_ack is expected


def test_f40_another_value_of_the_override_is_refused_beside_the_files_mistakes(write: Write) -> None:
    found = problems(write("log: {level: x}"), VIDEO_FAST_ACK="no")
    assert found[-1] == "VIDEO_FAST_ACK in the environment: must be 0 or 1"
    assert len(found) == 2


def test_the_environment_names_the_file_unless_the_caller_does(write: Write, tmp_path: Path) -> None:
    path = write("log: {level: debug}")
    assert load(environment={"VIDEO_APPLIANCE_CONFIG": str(path)}).log.level == "debug"
    other = tmp_path / "other.yaml"
    other.write_text("log: {level: error}")
    config = load(other, {"VIDEO_APPLIANCE_CONFIG": str(path)})
    assert (config.log.level, config.path) == ("error", str(other))


def test_secrets_come_from_the_files_that_are_named(write: Write, tmp_path: Path) -> None:
    dsn, url = tmp_path / "dsn", tmp_path / "url"
    dsn.write_text("postgresql://u:p@h/d\n")
    url.write_text("redis://:p@h\n")
    config = load(write(f"database: {{dsn_file: {dsn}}}\nredis: {{url_file: {url}}}\n"), {})
    assert config.database.read_dsn() == "postgresql://u:p@h/d"
    assert config.redis.read_url() == "redis://:p@h"


def test_f40_running_needs_a_database_a_queue_a_bucket_and_a_region(write: Write) -> None:
    path = write("")
    with pytest.raises(ConfigError) as caught:
        validate_for_run(load(path, {}))
    names = [problem.removeprefix(f"{path}: ").split(":")[0] for problem in caught.value.problems]
    assert names == ["queue.url", "storage.bucket", "aws.region", "database.dsn_file"]


def test_f40_running_needs_secrets_that_can_be_read(write: Write, tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(b"\xff\xfe")
    complete = "queue: {url: http://q}\nstorage: {bucket: bbb}\naws: {region: r}\n"
    for file, reason in ((tmp_path / "none", "No such file"), (empty, "is empty"), (binary, "is not text")):
        config = load(write(f"{complete}database: {{dsn_file: {file}}}\n"), {})
        with pytest.raises(ConfigError, match=f"database.dsn_file: {file}.*{reason}"):
            validate_for_run(config)
    config = load(write(f"{complete}database: {{dsn: postgresql://h/d}}\nredis: {{url_file: {empty}}}\n"), {})
    with pytest.raises(ConfigError, match=f"redis.url_file: {empty} is empty"):
        validate_for_run(config)


def test_a_complete_configuration_may_run(write: Write) -> None:
    text = "queue: {url: http://q}\nstorage: {bucket: bbb}\naws: {region: r}\ndatabase: {dsn: postgresql://h/d}\n"
    validate_for_run(load(write(text), {}))


def test_an_alias_bomb_is_a_mistake_like_any_other_and_takes_no_memory(write: Write) -> None:
    """YAML's billion laughs: nine lists of nine aliases each are four hundred million entries, if they are followed."""
    lines = ["x0: &x0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 10)]
    bomb = "\n".join([*lines, "encode: {ladder: *x9}", "sandbox: {readable: *x9}", "web: &me {host: *x9, port: *x9}"])
    path = write(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert len(caught.value.problems) < 40


def test_an_alias_of_itself_is_a_mistake_like_any_other(write: Write) -> None:
    with pytest.raises(ConfigError):
        load(write("encode: &a {ladder: [*a]}\nsandbox: {readable: &b [*b]}"), {})
