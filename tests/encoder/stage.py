"""What the encoder's tests share: a world to work in, an encoder in a thread, and one in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import structlog

from appliance import config as settings
from appliance.adapters.ffmpeg.run import Limits
from appliance.adapters.ffmpeg.run import run as run_program
from appliance.config import Config
from appliance.domain.video import Lease, Worker
from appliance.encoder.drain import Drain
from appliance.encoder.parent import Parent, die_with_parent

#: A test that waits this long has failed, however slow the machine is.
PATIENCE_SECONDS = 30.0
FAST_LEASE = settings.Lease(
    lease_seconds=9, renew_seconds=0.1, chunk_lease_seconds=6, heartbeat_ttl_seconds=5, grace_seconds=0.2
)


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)
    return result


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def a_lease(video_id: int = 7, tenant_id: int | None = 3) -> Lease:
    return Lease(video_id, tenant_id, "a.mp4", uuid.uuid4(), 1, Worker("host-a", "host-a:0"))


class Listener:
    """The supervisor's end of a pipe, read whenever somebody asks."""

    def __init__(self) -> None:
        self._reader, self.writer = multiprocessing.Pipe()
        self.parent = Parent(self.writer)
        self._events: list[Any] = []

    @property
    def events(self) -> list[Any]:
        while not self._reader.closed and self._reader.poll():
            self._events.append(self._reader.recv())
        return self._events

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def close(self) -> None:
        """What was said stays."""
        assert self.events is self._events
        self._reader.close()
        self.writer.close()


@dataclass
class World:
    """Real servers, and the configuration of an encoder that works with them."""

    config: Config
    sqs: Any

    def query(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        connection = psycopg2.connect(self.config.database.dsn, cursor_factory=psycopg2.extras.RealDictCursor)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def video(self, status: str = "UPLOADED", tenant_id: int | None = 3, **columns: object) -> int:
        values = {"status": status, "tenant_id": tenant_id, "file_key": "a.mp4", **columns}
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        return int(self.query(f"INSERT INTO video ({names}) VALUES ({marks}) RETURNING id", *values.values())[0]["id"])

    def row(self, video_id: int) -> dict[str, Any]:
        return self.query("SELECT * FROM video WHERE id = %s", video_id)[0]

    def status(self, video_id: int) -> str:
        return str(self.row(video_id)["status"])

    def attempts(self, video_id: int) -> list[dict[str, Any]]:
        return self.query("SELECT * FROM video_attempt WHERE video_id = %s ORDER BY epoch", video_id)

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.config.queue.url, MessageBody=body)

    def ring(self, video_id: int) -> None:
        self.send(json.dumps({"video_id": video_id, "tenant_id": 3}))

    def depth(self) -> tuple[int, int]:
        """(visible, inflight)."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.config.queue.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def with_queue(self, **changes: object) -> World:
        return replace(self, config=replace(self.config, queue=replace(self.config.queue, **changes)))


def make_world(dsn: str, redis_url: str, aws: Any, queue_url: str, directory: Path) -> World:
    config = Config(
        database=settings.Database(dsn=dsn, connect_timeout_seconds=2, statement_timeout_seconds=5),
        queue=settings.Queue(url=queue_url, wait_seconds=1, poll_seconds=1),
        storage=settings.Storage(bucket="bucket"),
        aws=settings.Aws(region=aws.region, endpoint_url=aws.endpoint_url, connect_timeout_seconds=1),
        redis=settings.Redis(url=redis_url, timeout_seconds=0.5),
        lease=FAST_LEASE,
        pool=settings.Pool(drain_seconds=20),
        workspace=settings.Workspace(directory=str(directory / "scratch"), min_free_bytes=0, min_free_memory_bytes=0),
    )
    return World(config, aws.client("sqs"))


@dataclass
class Running:
    """An encoder that runs in a thread of this process."""

    world: World
    drain: Drain
    listener: Listener
    log: list[dict[str, Any]]
    encoder: Any = None
    thread: threading.Thread | None = None
    status: int | None = None
    error: list[BaseException] = field(default_factory=list)

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.log) if line["event"] == event]

    def names(self, *, of: int | None = None) -> list[str]:
        """The events in order; `of`: only those that are bound to this video."""
        return [line["event"] for line in list(self.log) if of is None or line.get("video_id") == of]

    def until_logged(self, event: str, times: int = 1) -> dict[str, Any]:
        until(lambda: len(self.lines(event)) >= times or self.error, f"the line {event}")
        assert not self.error, self.error
        return self.lines(event)[-1]

    def until_status(self, video_id: int, status: str) -> None:
        until(lambda: self.world.status(video_id) == status or self.error, f"status {status}")
        assert not self.error, self.error

    def stop(self) -> int:
        self.drain.note()
        assert self.thread is not None
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive(), "the encoder did not end"
        if self.error:
            raise self.error[0]
        assert self.status is not None
        return self.status


@contextmanager
def encoder(world: World, work: Callable[[Any], Any], *, drain_seconds: float = 20.0) -> Iterator[Running]:
    """Run an encoder until the block ends; it has ended afterwards."""
    from appliance.wiring.encoder import build

    log: list[dict[str, Any]] = []

    def take(_logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        log.append({**event, "log_level": method})
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, take])
    running = Running(world, Drain(drain_seconds), Listener(), log)
    running.encoder = build(world.config, 0, running.listener.parent, running.drain, work)

    _poll_shortly(running)

    def run() -> None:
        try:
            running.status = running.encoder.run()
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            running.error.append(error)

    running.thread = threading.Thread(target=run, name="encoder")
    running.thread.start()
    try:
        yield running
    finally:
        try:
            running.stop()
        finally:
            structlog.configure(processors=before)
            running.drain.close()
            running.listener.close()


def _poll_shortly(running: Running) -> None:
    """Long polls that a test need not wait for: the real ones are in tests/adapters/test_sqs.py and in every child."""
    doorbell = running.encoder._messages._doorbell
    receive = doorbell.receive

    def receive_shortly(_seconds: float) -> Any:
        received = receive(0.0)
        if received is None:
            time.sleep(0.05)
        return received

    doorbell.receive = receive_shortly


@dataclass
class Child:
    """An encoder that is a process of its own, as the pool starts it."""

    process: Any
    connection: Connection
    log_path: Path

    def log(self) -> list[dict[str, Any]]:
        text = self.log_path.read_text() if self.log_path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def until_logged(self, event: str) -> dict[str, Any]:
        until(lambda: self.lines(event), f"the line {event}")
        return self.lines(event)[-1]

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> int:
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, "the encoder did not end"
        return int(self.process.exitcode)


@contextmanager
def child(world: World, work: Callable[[Any], Any] | None, directory: Path) -> Iterator[Child]:
    """`work` is a function of a module, for the child imports it."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    log_path = directory / "encoder.log"
    process = context.Process(target=run_child, args=(world.config, theirs, log_path, work))
    process.start()
    theirs.close()
    try:
        yield Child(process, ours, log_path)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        process.close()
        ours.close()


def run_child(config: Config, connection: Connection, log_path: Path, work: Callable[[Any], Any] | None) -> None:
    with log_path.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    from appliance.wiring.encoder import run

    sys.exit(run(config, 0, connection, work))


# --- a supervisor's stand-in that can be killed -------------------------------------------------------------------


@dataclass
class Family:
    supervisor: int
    fork_server: int
    encoder: int
    program: int


@contextmanager
def supervisor_of_one(tmp_path: Path) -> Iterator[Family]:
    """A process with a fork server and one child, which runs a program as it runs ffmpeg."""
    command = f"from tests.encoder.stage import supervise; supervise({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", command])
    pids = tmp_path / "pids"
    until(lambda: pids.exists() or process.poll() is not None, "the family's start")
    family = Family(process.pid, *map(int, pids.read_text().split()))
    try:
        yield family
    finally:
        for pid in (family.supervisor, family.fork_server, family.encoder, family.program):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def supervise(directory: str) -> None:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=hold_a_program, args=(directory,))
    process.start()
    process.join()


def hold_a_program(directory: str) -> None:
    die_with_parent()
    program = Path(directory) / "program"
    limits = Limits(deadline_seconds=600, stall_seconds=600, memory_bytes=1 << 32)

    def check() -> None:
        if program.exists() and program.read_text() and not (Path(directory) / "pids").exists():
            found = Path(directory) / "pids.new"
            found.write_text(f"{os.getppid()} {os.getpid()} {program.read_text()}")
            found.rename(Path(directory) / "pids")

    script = f"echo $$ > {program}; exec sleep 600"  # nothing that would fork: it is caged
    run_program(["/bin/sh", "-c", script], directory=Path(directory), limits=limits, check=check)
