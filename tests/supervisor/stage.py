"""What the supervisor's tests share: waiting, a pool on fast settings, a whole supervisor with a story."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import structlog

from appliance.adapters.systemd import Notify
from appliance.config import Config
from appliance.config import Pool as Settings
from appliance.supervisor.abandon import Abandoner
from appliance.supervisor.board import Board
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.fork import spawner
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.pool import Death, Pool
from appliance.supervisor.process import Fitting, Service, Supervisor
from appliance.supervisor.reload import Answer
from appliance.supervisor.tokens import TokenFiles
from tests.supervisor.children import Behaviour

#: A test that waits this long has failed, however slow the machine is.
PATIENCE_SECONDS = 120.0
FAST = Settings(encoders=1, drain_seconds=60, boot_seconds=20, backoff_first_seconds=0.05)


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


@contextmanager
def pool_of(behaviour: Behaviour, count: int = 1, settings: Settings = FAST) -> Iterator[Pool]:
    pool = Pool(spawner(Config(), behaviour), settings, time.monotonic)
    pool.resize(count)
    pool.refill()
    try:
        yield pool
    finally:
        pool.kill()
        turn_until(pool, lambda: pool.empty)


def turn(pool: Pool) -> list[Death]:
    """One turn of a loop around the pool."""
    wait(pool.waitables(), 0.02)
    ended = pool.ended()
    list(pool.hear())
    deaths = pool.reap(ended)
    pool.refill()
    pool.watch()
    return deaths


def turn_until(pool: Pool, condition: Callable[[], Any]) -> list[Death]:
    deaths: list[Death] = []

    def turned() -> Any:
        deaths.extend(turn(pool))
        return condition()

    until(turned)
    return deaths


class Recorder:
    """Stands for leases, chunks and doorbell where only the calls matter; the real ones are in tests/wiring."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def abandon(self, token: Any) -> None:
        self.calls.append(("abandon", token))

    def abandon_chunk(self, token: Any) -> bool:
        self.calls.append(("abandon_chunk", token))
        return True


@dataclass
class Theatre:
    """A supervisor that is run in this thread while a story is told in another."""

    directory: Path
    behaviour: Behaviour
    config: Config = field(default_factory=lambda: Config(pool=FAST))
    environment: dict[str, str] = field(default_factory=dict)
    recorder: Recorder = field(default_factory=Recorder)
    read: Callable[[], Config] | None = None
    #: What lives in threads beside the loop; may be added to before it is played.
    services: list[Service] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.board = Board(time.monotonic(), time.monotonic())
        self.metrics = Metrics()
        self.dependencies = Dependencies(time.monotonic, self.metrics.count)
        self.files = TokenFiles(self.directory)
        self.answer = Answer(self.directory)
        self.pool = Pool(spawner(self.config, self.behaviour), self.config.pool, time.monotonic)
        self.logged: list[Any] = []

    def play(self, story: Callable[[], None]) -> int:
        """The supervisor's exit status. The story begins with the first report, and is to end the run."""
        failures: list[BaseException] = []
        ended = threading.Event()

        def tell() -> None:
            try:
                # a host that is told to leave before its first turn may never show a slot
                until(lambda: self.board.slots or self.board.draining or ended.is_set(), "the first report")
                story()
            except BaseException as error:  # noqa: BLE001 - told to the test below
                failures.append(error)
                if not ended.is_set():
                    os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=tell)
        with structlog.testing.capture_logs() as self.logged:
            supervisor = self._supervisor()
            thread.start()
            try:
                status = supervisor.run()
            finally:
                ended.set()
                thread.join()
        if failures:
            raise failures[0]
        return status

    def states(self) -> list[str]:
        return [slot.state for slot in self.board.slots]

    def events(self, name: str) -> list[Any]:
        return [line for line in self.logged if line["event"] == name]

    def _supervisor(self) -> Supervisor:
        fitting = Fitting(
            read=self.read or (lambda: self.config),
            spawner=lambda config: spawner(config, self.behaviour),
            count=lambda config: (int(config.pool.encoders), "the test says so"),
            set_log_level=lambda _level: None,
            answer=self.answer,
        )
        return Supervisor(
            self.config,
            fitting,
            self.pool,
            abandoner=Abandoner(
                leases=self.recorder,
                chunks=self.recorder,
                doorbell=self.recorder,
                files=self.files,
                dependencies=self.dependencies,
                metrics=self.metrics,
            ),
            services=self.services,
            files=self.files,
            board=self.board,
            dependencies=self.dependencies,
            metrics=self.metrics,
            notify=Notify(self.environment),
            clock=time.monotonic,
        )


def with_pool(**settings: Any) -> Config:
    return Config(pool=replace(FAST, **settings))


def tell(number: int) -> None:
    """Send this process, the supervisor, a signal."""
    os.kill(os.getpid(), number)
