"""`bench corpus FOLDER`: every file of a folder with a MANIFEST.tsv ends as the manifest expects, on two ways.

Each goes through `encode` and through a running appliance (the embedded stack, the real supervisor). READY must pass
`verify`, FAILED must carry a code of ERROR_CODES and a sentence, and nothing may take more memory, time or disk than
is configured. Scripts that point at this machine also come as copies that point at a canary.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from appliance import config as configuration
from appliance.adapters.postgres.migrate import migrate
from appliance.cli import terminal
from appliance.cli.bar import Bar
from appliance.config import Config
from appliance.domain.errors import ERROR_CODES
from appliance.local.aws import CREDENTIALS
from appliance.local.stack import Stack
from tests.benchmarks import manifest, ways
from tests.benchmarks.canary import Canary, bait, ports
from tests.benchmarks.manifest import BadManifest, Entry, Expectation
from tests.benchmarks.ways import Outcome
from tests.hosts import World

#: Waits are short, because nobody else is on this stack; leases are those of a real host.
SETTINGS: dict[str, dict[str, Any]] = {
    "database": {"connect_timeout_seconds": 5, "statement_timeout_seconds": 10},
    "lease": asdict(configuration.Lease()) | {"max_attempts": 2},
    "queue": {"wait_seconds": 2, "poll_seconds": 2},
    "pool": {"encoders": "auto", "drain_seconds": 1},
}
#: What a kernel without Landlock and seccomp leaves: the options of ffmpeg's command lines.
BARE = {"sandbox": {"landlock": False, "seccomp": False}}
#: A mistake of the appliance's own is no verdict on a file.
NO_VERDICT = {"internal_error"}
#: x264 keeps to `maxrate` over the two seconds of its buffer, and containers, sprites and text take little beside it.
RATE_SLACK = 1.2


@dataclass
class Line:
    """One file and what is unexpected about it, as sentences."""

    entry: Entry
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def unexpected(self, config: Config) -> list[str]:
        if not self.entry.file.is_file():
            return ["There is no such file."]
        size = self.entry.file.stat().st_size
        return [
            f"{way}: {sentence}"
            for way, outcome in self.outcomes.items()
            for sentence in (*verdict(self.entry.expectation, outcome), *over(config, size, outcome))
        ]


def verdict(expectation: Expectation, outcome: Outcome) -> Iterator[str]:
    """What is wrong with how it ended."""
    if outcome.status == "READY":
        if expectation == Expectation.REJECTION:
            yield "It is READY and should have been rejected."
        yield from outcome.broken
        return
    if expectation == Expectation.ENCODES:
        yield f"It should have become READY and is {outcome.status} {outcome.code}: {outcome.reason}"
    elif outcome.status != "FAILED" or outcome.code not in ERROR_CODES.keys() - NO_VERDICT or not outcome.reason:
        yield f"It is {outcome.status} without a clear rejection ({outcome.code}: {outcome.reason})"


def over(config: Config, source_bytes: int, outcome: Outcome) -> Iterator[str]:
    """Which of the configured bounds it exceeded."""
    ffmpeg = config.ffmpeg
    bounds = {
        "bytes of memory": (outcome.peak_memory_bytes, ffmpeg.memory_bytes),
        "seconds": (outcome.seconds, max(ffmpeg.min_deadline_seconds, ffmpeg.deadline_factor * outcome.media_seconds)),
        "bytes of scratch": (outcome.peak_disk_bytes, scratch_bytes(config, source_bytes, outcome)),
    }
    for unit, (amount, bound) in bounds.items():
        if amount > bound:
            yield f"It took {amount:.0f} {unit}; the bound is {bound:.0f}."


def scratch_bytes(config: Config, source_bytes: int, outcome: Outcome) -> int:
    """The source and two chunks, each as ffmpeg wrote it and as it was packaged, at the highest rate of every rung."""
    chunk_seconds = max(config.encode.chunk_seconds, outcome.media_seconds / max(1, outcome.chunks - 1))
    rate = sum(step.maxrate for step in config.encode.ladder)
    return int(source_bytes + 2 * 2 * RATE_SLACK * rate / 8 * chunk_seconds)


def main(arguments: list[str] | None = None) -> int:
    """0: nothing unexpected; 1: something; 2: there is no corpus to measure."""
    chosen = options(arguments)
    try:
        entries = selected(chosen)
    except BadManifest as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _leave_real_accounts(os.environ)
    with tempfile.TemporaryDirectory(prefix="corpus-", dir=chosen.scratch) as directory:
        return measure(entries, Path(directory), chosen)


def measure(
    entries: list[Entry],
    directory: Path,
    options: argparse.Namespace,
    *,
    world: World | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
) -> int:
    """Both ways, a line for each file, the summary. Without a world a stack is started for it."""
    settings = {**SETTINGS, **(BARE if options.bare else {}), **(settings or {})}
    config = _config(directory, settings)
    began = time.monotonic()
    with Canary(directory, _ports(entries)) as canary, Bar(quiet=options.json) as bar:
        lines = [Line(entry) for entry in [*entries, *_baits(entries, directory, canary)]]
        present = [line for line in lines if line.entry.file.is_file()]
        if "encode" in options.ways:
            _encode_all(present, directory, options, bar)
        ended: Iterable[Line] = iter(present)
        if "appliance" in options.ways:
            ended = _through_appliance(present, directory, options, bar, world=world, settings=settings)
        unexpected = 0
        for line in chain((line for line in lines if line not in present), ended):
            unexpected += _tell(line, line.unexpected(config), options)
    return _sum_up(lines, unexpected, canary, time.monotonic() - began, options)


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./install.sh bench corpus", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="holds MANIFEST.tsv and what it names")
    parser.add_argument("--json", action="store_true", help="one object for each file, and one that sums up")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="only paths like this; repeatable")
    parser.add_argument("--skip", action="append", default=[], metavar="GLOB", help="without paths like this")
    parser.add_argument("--way", choices=("encode", "appliance", "both"), default="both")
    parser.add_argument("--bare", action="store_true", help="with the cage off")
    parser.add_argument("--quick", action="store_true", help="some of the smallest files of each expectation")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="encodes at once (default: cores)"
    )
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="where streams are made (default: TMPDIR)")
    parser.add_argument("--give-up-seconds", type=float, default=14_400.0, metavar="N", help="for one file, one way")
    chosen = parser.parse_args(arguments)
    chosen.ways = ("encode", "appliance") if chosen.way == "both" else (chosen.way,)
    return chosen


def selected(options: argparse.Namespace) -> list[Entry]:
    if options.folder is None:
        raise BadManifest("Which corpus? ./install.sh bench corpus FOLDER, a folder with a MANIFEST.tsv.")
    entries = [
        entry
        for entry in manifest.read(options.folder)
        if (not options.only or _like(entry.path, options.only)) and not _like(entry.path, options.skip)
    ]
    if not entries:
        raise BadManifest("No path of the manifest is left.")
    return manifest.quick(entries) if options.quick else entries


def _like(path: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _leave_real_accounts(environment: MutableMapping[str, str]) -> None:
    """Nothing that is started here may reach an account or a configuration of its user's."""
    for name in [name for name in environment if name.startswith(("AWS_", "VIDEO_", "RUNTIME_DIRECTORY"))]:
        del environment[name]
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    environment.update({**CREDENTIALS, **files, "AWS_EC2_METADATA_DISABLED": "true"})


def _config(directory: Path, settings: dict[str, dict[str, Any]]) -> Config:
    """What both ways are configured with, for `encode` as a file."""
    path = directory / "encode.yaml"
    path.write_text(
        yaml.safe_dump({name: settings[name] for name in ("ffmpeg", "encode", "sandbox") if name in settings})
    )
    return configuration.load(path, environment={})


def _scripts(entries: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """The entries that point at this machine, with their bytes."""
    for entry in entries:
        if entry.file.is_file():
            with entry.file.open("rb") as file:
                data = file.read(256 * 1024)
            if bait(data):
                yield entry, data


def _ports(entries: list[Entry]) -> set[int]:
    return {port for _, data in _scripts(entries) for port in ports(data)}


def _baits(entries: list[Entry], directory: Path, canary: Canary) -> Iterator[Entry]:
    """The scripts again, pointing at what is certain to be there."""
    for number, (entry, data) in enumerate(_scripts(entries)):
        file = directory / f"bait{number}{entry.file.suffix}"
        file.write_bytes(canary.aimed(data))
        yield Entry(f"{entry.path} (aimed at the canary)", entry.expected, file)


def _encode_all(lines: list[Line], directory: Path, options: argparse.Namespace, bar: Bar) -> None:
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {
            pool.submit(
                ways.encode,
                line.entry,
                directory / f"encode{number}",
                directory / "encode.yaml",
                options.give_up_seconds,
            ): line
            for number, line in enumerate(lines)
        }
        for count, future in enumerate(as_completed(running)):
            running[future].outcomes["encode"] = future.result()
            bar.show(100 * (count + 1) / len(lines), "encode")


def _through_appliance(
    lines: list[Line],
    directory: Path,
    options: argparse.Namespace,
    bar: Bar,
    *,
    world: World | None,
    settings: dict[str, dict[str, Any]],
) -> Iterator[Line]:
    """Each line as its file has ended there; all are submitted at once, as a backlog."""
    by_entry = {line.entry: line for line in lines}
    with _world(world) as stage, ways.appliance(stage, directory / "appliance", settings) as running:
        for line in lines:
            running.submit(line.entry)
        for count, (entry, outcome) in enumerate(running.outcomes(options.give_up_seconds)):
            bar.show(100 * (count + 1) / len(lines), "appliance")
            by_entry[entry].outcomes["appliance"] = outcome
            yield by_entry[entry]


@contextmanager
def _world(given: World | None) -> Iterator[World]:
    if given:
        yield given
        return
    with Stack() as stack:
        migrate(stack.postgres.dsn, table="video")
        aws = stack.aws
        yield World(stack.postgres.dsn, stack.redis.url, aws, aws.make_bucket("corpus"), aws.make_queue("corpus"))


def _tell(line: Line, unexpected: list[str], options: argparse.Namespace) -> bool:
    """One line for one file; whether anything about it is unexpected."""
    entry, outcomes = line.entry, line.outcomes
    if options.json:
        facts = {way: asdict(outcome) for way, outcome in outcomes.items()}
        told = {"path": entry.path, "expected": entry.expected, "expectation": str(entry.expectation), **facts}
        terminal.emit({**told, "unexpected": unexpected, "ok": not unexpected})
    else:
        cells = [f"{outcome.code or outcome.status} {outcome.seconds:.1f} s" for outcome in outcomes.values()]
        words = [f"{cell:<22}" for cell in cells]
        mark = "UNEXPECTED" if unexpected else "ok"
        terminal.say(" ".join([f"{mark:<10}", *words, entry.path, f"[{entry.expected}]", *unexpected]))
    return bool(unexpected)


def _sum_up(lines: list[Line], unexpected: int, canary: Canary, seconds: float, options: argparse.Namespace) -> int:
    outcomes = [outcome for line in lines for outcome in line.outcomes.values()]
    figures = {
        "files": len(lines),
        "unexpected": unexpected,
        "ready": sum(outcome.status == "READY" for outcome in outcomes),
        "failed": sum(outcome.status == "FAILED" for outcome in outcomes),
        "peak_memory_bytes": max((outcome.peak_memory_bytes for outcome in outcomes), default=0),
        "peak_disk_bytes": max((outcome.peak_disk_bytes for outcome in outcomes), default=0),
        "canary_touched": canary.touched,
        "ports_not_watched": canary.unwatched,
        "seconds": round(seconds, 1),
    }
    if options.json:
        terminal.emit({"summary": figures})
    else:
        terminal.say(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items() if value != []))
    return 1 if unexpected or canary.touched else 0


if __name__ == "__main__":
    sys.exit(main())
