"""One chaos run from its seed to its verdict."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg2

from appliance.adapters.ffmpeg import tools
from appliance.adapters.postgres.migrate import migrate
from appliance.adapters.s3 import S3
from appliance.local.aws import CREDENTIALS, REGION
from appliance.local.port import free_ports
from appliance.local.stack import Stack
from tests.chaos import bucket, checker, history
from tests.chaos.actor import Actor
from tests.chaos.checker import Violation
from tests.chaos.faults import KILLS, PAUSES, POSTGRES_RESTARTS, Fault, Kind, schedule
from tests.chaos.hosts import Host, can_be_named, eventually_gone
from tests.chaos.platform import Platform
from tests.chaos.programs import Programs
from tests.chaos.scale import ENCODE, LONG_PAUSE_SECONDS, SANDBOX, SETTINGS
from tests.hosts import eventually
from tests.recordings import lecture

BUCKET = "chaos"
TURN_SECONDS = 0.1
#: After the last fault all must come to its end within this time, or it is lost.
DRAIN_SECONDS = 120.0
STOP_SECONDS = 40.0
BOOT_SECONDS = 120.0
STALE_TRIES = 3
#: A fault without a victim waits this long for one.
PATIENCE_SECONDS = 10.0
#: Faults in one turn: the hosts need the cores too.
AT_ONCE = 3
#: Name → (seconds, size): what the fakes replay, and what is really encoded.
SOURCES = {"short": (1, "64x36"), "spoken": (2, "64x36"), "long": (6, "64x36"), "real": (8, "320x180")}


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; `videos` None: as many as the time allows."""

    seed: int
    minutes: float
    videos: int | None = None
    real: int = 20
    hosts: int = 2
    encoders: int = 3
    #: Fakes that are proven again after the run; the real ones all are.
    sample: int = 200
    disks: bool = False


@dataclass
class World:
    """The servers of a run, and what was made on them."""

    stack: Stack
    endpoint: str
    dsn: str
    queue_url: str
    hosts: list[Host]
    platform: Platform
    actor: Actor
    storage: S3


@dataclass
class Verdict:
    """`clean` is what the exit status says."""

    seed: int
    seconds: float
    figures: dict[str, Any]
    violations: list[Violation] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.violations


Show = Callable[[str], None]


def run(wanted: Wanted, show: Show, directory: Path | None = None) -> Verdict:
    """Everything lies in a directory of its own, which is kept when the verdict is not clean."""
    place = directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    place.chmod(0o711)
    began = time.monotonic()
    with _world(wanted, place, show) as world:
        try:
            took = _play(world, wanted, show)
            violations = list(_stopped(world, show))
        finally:
            _leave_nothing(world.hosts)
        verdict = _judge(world, wanted, took, violations, show)
    verdict.seconds = time.monotonic() - began
    if verdict.clean and directory is None:
        shutil.rmtree(place)
    elif not verdict.clean:
        verdict.figures["kept"] = str(place)
    return verdict


@contextmanager
def _world(wanted: Wanted, place: Path, show: Show) -> Iterator[World]:
    show("making the stage")
    programs = Programs.make(place / "programs")
    sources = [lecture_of(place, name) for name in SOURCES]
    programs.rehearse([path for path in sources if path.stem != "real"], {"encode": ENCODE, "sandbox": SANDBOX})
    with Stack() as stack:
        port = next(free_ports())
        with _endpoint(port, stack.aws.port, wanted.seed):
            yield _made(wanted, place, programs, sources, stack, f"http://127.0.0.1:{port}")


def lecture_of(place: Path, name: str) -> Path:
    """The source of this name; only the long ones speak, so that most videos have a single chunk."""
    seconds, size = SOURCES[name]
    path = place / f"{name}.mp4"
    if name in ("spoken", "real"):
        return lecture(path, seconds=seconds, size=size, rate="10")
    loud = lecture(place / f"loud-{name}.mp4", seconds=seconds, size=size, rate="10")
    subprocess.run([tools.find().ffmpeg, "-v", "error", "-i", loud, "-an", "-c", "copy", path], check=True)
    return path


@contextmanager
def _endpoint(port: int, moto_port: int, seed: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.chaos.storage", str(port), str(moto_port), str(seed)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        eventually(lambda: _listens(port))
        yield
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _made(wanted: Wanted, place: Path, programs: Programs, sources: list[Path], stack: Stack, endpoint: str) -> World:
    sqs = stack.aws.client("sqs")
    queue_url = sqs.create_queue(QueueName="chaos", Attributes={"VisibilityTimeout": "4"})["QueueUrl"]
    connection = psycopg2.connect(stack.postgres.dsn)
    connection.autocommit = True
    connection.cursor().execute("CREATE DATABASE chaos")
    connection.close()
    dsn = stack.postgres.database_dsn("chaos")
    migrate(dsn, table="video")
    history.install(dsn)
    client = _client("s3", endpoint)
    for source in sources:
        client.put_object(Bucket=BUCKET, Key=f"sources/{source.name}", Body=source.read_bytes())
    hosts = list(_hosts(wanted, place, programs, stack, endpoint, dsn, queue_url))
    platform = Platform(dsn, sqs, queue_url, wanted.seed, videos=wanted.videos, real=wanted.real)
    actor = Actor(stack, hosts, platform, endpoint, disks=wanted.disks)
    return World(stack, endpoint, dsn, queue_url, hosts, platform, actor, S3(client, BUCKET))


def _client(service: str, endpoint: str) -> Any:
    key, secret = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    return boto3.client(
        service, region_name=REGION, endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret
    )


def _hosts(
    wanted: Wanted, place: Path, programs: Programs, stack: Stack, endpoint: str, dsn: str, queue_url: str
) -> Iterator[Host]:
    named, ports = can_be_named(), free_ports()
    queue = queue_url.replace(stack.aws.endpoint_url, endpoint)
    for number in range(1, wanted.hosts + 1):
        settings = copy.deepcopy(SETTINGS)
        changes: dict[str, dict[str, Any]] = {
            "database": {"dsn": dsn},
            "redis": {"url": stack.redis.url},
            "aws": {"region": REGION, "endpoint_url": endpoint},
            "storage": {"bucket": BUCKET, "source_bucket": BUCKET},
            "queue": {"url": queue},
            "web": {"host": "127.0.0.1", "port": next(ports)},
            "pool": {"encoders": wanted.encoders},
            "ffmpeg": {"ffmpeg": str(programs.ffmpeg), "ffprobe": str(programs.ffprobe)},
        }
        for name, values in changes.items():
            settings[name] = {**settings.get(name, {}), **values}
        host = Host(f"chaos-{number}", place / f"host-{number}", settings, named)
        host.prepare()
        if wanted.disks:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(host.scratch)], check=True)
        yield host


def _play(world: World, wanted: Wanted, show: Show) -> float:
    """Submit, break, mend, until the time or the videos are over and everything has come to its end."""
    for host in world.hosts:
        host.start()
    _await_boot(world)
    world.actor.begin()
    began = time.monotonic()
    faults = schedule(wanted.seed, wanted.minutes)
    seconds = wanted.minutes * 60
    while (passed := time.monotonic() - began) < seconds and not world.platform.finished:
        share = len(world.platform.submitted) / wanted.videos if wanted.videos else passed / seconds
        world.platform.feed(wanted.hosts * wanted.encoders + 2, share)
        faults = _break(world, faults, passed)
        _turn(world)
        show(_line(world, passed, seconds))
    fed = time.monotonic() - began
    _be_stale(world, wanted, show)
    _drain(world, show)
    return fed


def _be_stale(world: World, wanted: Wanted, show: Show) -> None:
    """A run without one rejected write would prove nothing: then, with nothing else going on, an owner oversleeps."""
    fault = Fault(0.0, Kind.PAUSE_ENCODER_LONG, float(wanted.seed))
    for _ in range(0 if _stale(world) else STALE_TRIES):
        until = time.monotonic() + 3 * LONG_PAUSE_SECONDS
        while not world.actor.act(fault) and time.monotonic() < until:
            _turn(world)
            world.platform.feed(wanted.hosts * wanted.encoders, 1.0, beyond=True)
        while time.monotonic() < until and not _stale(world):
            _turn(world)
            show("waiting for a stale write")
        if _stale(world):
            return


def _stale(world: World) -> int:
    return sum(_count_events(host, ("LEASE_LOST", "CHUNK_LOST")) for host in world.hosts)


def _await_boot(world: World) -> None:
    """The clock starts when every host has an encoder."""
    until = time.monotonic() + BOOT_SECONDS
    while not all(_count_events(host, ("ENCODER_BOOTED",)) for host in world.hosts):
        if time.monotonic() > until:
            raise RuntimeError("the hosts did not come up")
        _turn(world)


def _break(world: World, faults: list[Fault], passed: float) -> list[Fault]:
    """Do what is due; what finds no victim waits a little. `faults` is in the order of time."""
    due = [fault for fault in faults if fault.at_seconds <= passed]
    now, rest = due[:AT_ONCE], faults[len(due[:AT_ONCE]) :]
    waiting = [fault for fault in now if not world.actor.act(fault) and passed - fault.at_seconds < PATIENCE_SECONDS]
    # what waits for a victim lets the others pass
    return [*rest[: len(due) - len(now)], *waiting, *rest[len(due) - len(now) :]]


def _turn(world: World) -> None:
    world.actor.tend()
    for host in world.hosts:
        host.tend(time.monotonic())
    time.sleep(TURN_SECONDS)


def _drain(world: World, show: Show) -> None:
    world.actor.finish()
    until = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < until and (count := world.platform.count())["under way"]:
        for _ in range(5):
            _turn(world)
        show(f"draining: {count['under way']} videos under way")
    # orphans are looked for until the last kill is old enough
    while world.actor.busy:
        _turn(world)


def _line(world: World, passed: float, seconds: float) -> str:
    done = world.actor.done
    kills, pauses = sum(done[kind] for kind in KILLS), sum(done[kind] for kind in PAUSES)
    return (
        f"{passed:5.0f}/{seconds:.0f} s  {len(world.platform.submitted)} videos  {kills} kills  {pauses} pauses  "
        f"{sum(done[kind] for kind in POSTGRES_RESTARTS)} postgres  {done[Kind.RESTART_REDIS]} redis"
    )


def _leave_nothing(hosts: list[Host]) -> None:
    """However the run ended: no process of a host stays."""
    for host in hosts:
        for process in host.everything():
            process.signal(signal.SIGKILL)
            process.signal(signal.SIGCONT)
        if host.process is not None:
            host.process.wait()
        if os.path.ismount(host.scratch):
            subprocess.run(["umount", str(host.scratch)], check=True)


def _judge(world: World, wanted: Wanted, fed_seconds: float, violations: list[Violation], show: Show) -> Verdict:
    show("reading the history")
    found = history.load(world.dsn)
    report = checker.check(
        found,
        submitted=world.platform.submitted,
        max_losses=SETTINGS["lease"]["max_losses"],
        killed=world.actor.killed,
    )
    violations += report.violations
    show("reading the bucket")
    read = bucket.check(
        world.platform.query, world.storage, real=world.platform.real, sample=wanted.sample, seed=wanted.seed
    )
    violations += read.violations
    stale = _stale(world)
    if not stale:
        violations.append(Violation("nothing proven", "no stale write was ever rejected"))
    figures = _figures(world, report, read, stale, fed_seconds)
    return Verdict(wanted.seed, 0.0, figures, violations)


def _stopped(world: World, show: Show) -> Iterator[Violation]:
    """SIGTERM on a quiet day: exit 0, nobody left, workspaces empty; and no orphan was ever seen."""
    show("stopping the hosts")
    for sentence in world.actor.orphans:
        yield Violation("orphan", sentence)
    for host in world.hosts:
        until = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < until and not (_booted(host) and not _rooms(host)):
            _turn(world)  # what the dead left is swept by the next encoder's first turn (F36); then the host may leave
        statuses = [*host.exits, host.stop(STOP_SECONDS)]
        if bad := [status for status in statuses if status != 0]:
            yield Violation("exit", f"{host.name} ended with {bad}")
    for process in eventually_gone(world.hosts, 5.0):
        yield Violation("orphan", f"process {process.pid} is left after the end")
    for host in world.hosts:
        if rooms := _rooms(host):
            yield Violation("workspace", f"{host.name} left {rooms}")
        tokens = [path.name for path in (host.directory / "run").glob("*.tokens")]
        if tokens:
            yield Violation("tokens", f"{host.name} left {tokens}")
        for event in ("INTERNAL_ERROR", "HEARTBEAT_DIED", "RECONCILE_FAILED", "ABANDON_FAILED"):
            if number := _count_events(host, (event,)):
                yield Violation("mistake", f"{host.name} logged {event} {number} times")
        for line in host.log_path.read_text(errors="replace").splitlines():
            if line.startswith("Traceback"):
                yield Violation("mistake", f"{host.name} wrote a traceback outside of its log")


def _booted(host: Host) -> bool:
    """Whether an encoder of the present family has said that it is up."""
    log = host.log_path.read_text(errors="replace").splitlines()
    booted = [line for line in log if '"event": "ENCODER_BOOTED"' in line]
    pids = [process.pid for process in host.family() if process.role == "encoder"]
    return any(f'"pid": {pid}}}' in line for pid in pids for line in booted)


def _rooms(host: Host) -> list[str]:
    return [path.name for path in host.scratch.glob("job-*")]


def _count_events(host: Host, names: tuple[str, ...]) -> int:
    lines = host.log_path.read_text(errors="replace").splitlines()
    return sum(any(f'"event": "{name}"' in line for name in names) for line in lines)


def _figures(world: World, report: checker.Report, read: bucket.Read, stale: int, fed_seconds: float) -> dict[str, Any]:
    done = world.actor.done
    ready = report.attempts["ready"]
    return {
        "videos": len(world.platform.submitted),
        "real": len(world.platform.real),
        "outcomes": dict(report.outcomes),
        "resubmitted": world.platform.resubmitted,
        "cancelled": world.platform.cancelled,
        "attempts": dict(report.attempts),
        "streams proven after the run": read.proven,
        "objects looked up after the run": read.objects,
        "kills": sum(done[kind] for kind in KILLS),
        "pauses": sum(done[kind] for kind in PAUSES),
        "postgres restarts": sum(done[kind] for kind in POSTGRES_RESTARTS),
        "redis restarts": done[Kind.RESTART_REDIS],
        "faults": {str(kind): number for kind, number in sorted(done.items()) if number},
        "requests hit": world.actor.struck(),
        "stale writes rejected": stale,
        "takeovers": len(report.taken_over),
        "median seconds to give a killed owner's video back": checker.median(report.given_back),
        "median seconds to the next claim": checker.median(report.taken_over),
        "longest takeover seconds": round(max(report.taken_over, default=0.0), 1),
        "chunks begun": report.chunks_begun,
        "chunks done": report.chunks_done,
        "chunks begun again": report.chunks_begun - report.chunks_done,
        "finished chunks thrown away": report.chunks_thrown_away,
        "videos ready per second": round(ready / fed_seconds, 2),
    }


def as_json(verdict: Verdict) -> str:
    violations = [f"{violation.rule}: {violation.sentence}" for violation in verdict.violations]
    fields = {"seed": verdict.seed, "clean": verdict.clean, "seconds": round(verdict.seconds, 1)}
    return json.dumps({**fields, **verdict.figures, "violations": violations})
