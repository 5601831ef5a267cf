"""`demo [FILE]`: the whole appliance on one desk, with everything real except AWS, and nothing left behind.

The embedded stack, the schema, the very supervisor that systemd would start, a submitted recording, its receipt, and a
copy of the published stream that plays from a directory.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import appliance
from appliance import config as configuration
from appliance import log
from appliance.adapters.ffmpeg import tools
from appliance.adapters.postgres.migrate import migrate
from appliance.cli import exits, receipts, terminal
from appliance.cli.bar import Bar
from appliance.cli.demo import published, sample
from appliance.cli.demo.player import Player
from appliance.cli.demo.service import Service
from appliance.cli.follow import follow
from appliance.cli.services import Services
from appliance.cli.submit import last_receipt, submit
from appliance.domain.errors import SourceRejected
from appliance.domain.video import Status
from appliance.local.aws import CREDENTIALS
from appliance.local.port import LOOPBACK, free_ports
from appliance.local.stack import Stack

TENANT = 1
KEEP_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Ended:
    """How it ended: the row and the receipt, where the copy lies (READY only), and what each step took."""

    row: dict[str, Any]
    receipt: dict[str, Any]
    master: Path | None
    seconds: dict[str, float]

    @property
    def status(self) -> int:
        return exits.DONE if self.row["status"] == Status.READY else exits.NEGATIVE


def arguments(parser: argparse.ArgumentParser) -> None:
    out = Path("video-appliance-demo")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a recording (default: a rendered sample)")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help=f"takes the stream (default: ./{out})")
    parser.add_argument("--keep", action="store_true", help="run until Ctrl-C, with status page and player")


def main(options: argparse.Namespace) -> int:
    """0 for READY, 1 for FAILED. Whatever ends it, servers and processes are ended by their ids."""
    if options.file and not options.file.is_file():
        raise SourceRejected(f"There is no file {options.file}.", code="source_missing")
    log.configure("error")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _leave_real_accounts(os.environ)
    timed = Timed()
    with Stack() as stack:
        path = _write_settings(stack)
        config = configuration.load(path, environment={})
        migrate(config.database.read_dsn(), table=config.database.table)
        timed("stack")
        with Service(path, stack.directory) as service:
            _tell_start(stack, config.web.port, options)
            ended = _encode(Services(config), service, stack.directory, options, timed)
            if not (options.keep and ended.master):
                _tell_end(ended, options)
                return ended.status
            with Player(options.out) as player:
                addresses = {"status_page": _page(config.web.port), "player": player.url, "command": _command(path)}
                _keep(service, ended, options, **addresses)
    return exits.DONE


def _leave_real_accounts(environment: MutableMapping[str, str]) -> None:
    """Nothing of this process, nor of what it starts, may reach an account or a configuration of its user's."""
    for name in [name for name in environment if name.startswith(("AWS_", "VIDEO_APPLIANCE_", "RUNTIME_DIRECTORY"))]:
        del environment[name]
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    environment.update({**CREDENTIALS, **files, "AWS_EC2_METADATA_DISABLED": "true"})


def _write_settings(stack: Stack) -> Path:
    """The configuration of this one supervisor, where only we can read it. Waits are short: nobody else is on it."""
    workspace = stack.directory / "workspace"
    workspace.mkdir()
    streams = stack.aws.make_bucket("streams")
    stack.aws.open_to_readers(streams)
    settings = {
        "database": {"dsn": stack.postgres.dsn},
        "queue": {"url": stack.aws.make_queue("videos"), "wait_seconds": 2, "poll_seconds": 2},
        "storage": {"bucket": streams, "source_bucket": stack.aws.make_bucket("uploads")},
        "aws": {"region": stack.aws.region, "endpoint_url": stack.aws.endpoint_url},
        "redis": {"url": stack.redis.url},
        "lease": {"max_attempts": 2},
        "pool": {"drain_seconds": 1},
        "workspace": {"directory": str(workspace), "min_free_bytes": "256MiB", "min_free_memory_bytes": "64MiB"},
        "web": {"host": LOOPBACK, "port": next(free_ports())},
        "status_page": {"media_base_url": f"{stack.aws.endpoint_url}/{streams}"},
    }
    path = stack.directory / "video-appliance.yaml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


class Timed:
    """`timed(step)`: all the time since the last look belongs to this step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._looked_at = time.monotonic()

    def __call__(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step], self._looked_at = round(now - self._looked_at, 2), now


def _encode(services: Services, service: Service, directory: Path, options: argparse.Namespace, timed: Timed) -> Ended:
    """Submit, watch, and copy what was published; `directory` takes the sample and goes with the stack."""
    with Bar(quiet=options.json) as bar:
        file = options.file or _sample(directory, bar)
        timed("sample")
        video_id, _ = submit(services, str(file), bar, TENANT)
        timed("submit")
        found = follow(services, video_id, bar, service.check)
        timed("encode")
    ready = found["status"] == Status.READY
    master = published.copy(services.streams, found["hls_path"], options.out) if ready else None
    timed("copy")
    return Ended(found, last_receipt(found), master, _split(timed.seconds, found))


def _split(seconds: dict[str, float], row: dict[str, Any]) -> dict[str, float]:
    """With the wait for an encoder, until the claim, taken out of `encode`."""
    claimed = (row["attempts"][0]["started_at"] - row["created_at"]).total_seconds()
    rest = {**seconds, "claim": round(claimed, 2), "encode": round(seconds["encode"] - claimed, 2)}
    return {step: rest[step] for step in ("stack", "sample", "submit", "claim", "encode", "copy")}


def _sample(directory: Path, bar: Bar) -> Path:
    bar.show(0.0, "sample")
    return sample.render(tools.find().ffmpeg, directory / "lecture.mp4")


def _tell_start(stack: Stack, port: int, options: argparse.Namespace) -> None:
    if options.json:
        return
    ports = {"PostgreSQL": stack.postgres.port, "Redis": stack.redis.port, "SQS and S3": stack.aws.port}
    places = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
    terminal.facts("embedded stack", {**places, "supervisor": _page(port), "recording": options.file or "a sample"})


def _tell_end(ended: Ended, options: argparse.Namespace, **addresses: str) -> None:
    row, receipt = ended.row, ended.receipt
    if options.json:
        told = {"outcome": str(row["status"]), "master": str(ended.master or ""), "video_id": row["video_id"]}
        errors = {name: row[name] for name in ("error_code", "error_reason")}
        figures = {"rungs": receipt.get("rungs"), "chunks": receipt.get("chunks_total")}
        ends = {"hls_path": row["hls_path"], "receipt": receipt or None, "seconds": ended.seconds}
        terminal.emit({**told, **errors, **addresses, **figures, **ends})
        return
    receipts.show(receipt)
    steps = " · ".join(f"{step} {seconds:.1f}" for step, seconds in ended.seconds.items())
    terminal.facts("seconds", {"by step": steps, "together": f"{sum(ended.seconds.values()):.1f}"})
    for name, address in addresses.items():
        terminal.say(f"{name.replace('_', ' ')}: {address}")
    if ended.master:
        terminal.say(f"READY {ended.master}", style="green")
    else:
        terminal.say(f"FAILED {row['error_code']}: {row['error_reason']}", style="bold red")


def _keep(service: Service, ended: Ended, options: argparse.Namespace, **addresses: str) -> None:
    """Until Ctrl-C, or until the supervisor ends by itself (which is an error)."""
    _tell_end(ended, options, **addresses)
    if not options.json:
        terminal.say("Running until Ctrl-C. In another terminal: the command with status, top, list, submit FILE, …")
    pause = threading.Event()
    try:
        while not pause.wait(KEEP_LOOK_SECONDS):
            service.check()
    except KeyboardInterrupt:
        return


def _command(config: Path) -> str:
    """A program beside the configuration that runs any verb on this very appliance, from any shell."""
    settings = {**CREDENTIALS, "VIDEO_APPLIANCE_CONFIG": config, "PYTHONPATH": Path(appliance.__file__).parents[1]}
    pairs = (f"{name}={value}" for name, value in settings.items())
    program = config.with_name("video-appliance")
    program.write_text(f'#!/bin/sh\nexec {shlex.join(["env", *pairs, sys.executable, "-m", "appliance"])} "$@"\n')
    program.chmod(0o700)
    return str(program)


def _page(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/"
