"""Does what the schedule says: signals, restarts, outages; and undoes what must end again."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import redis

from appliance.local.stack import Stack
from tests.chaos.checker import Killed
from tests.chaos.faults import ODDS, OUTAGE_SECONDS, S3_DOWN, SQS_DOWN, Fault, Kind
from tests.chaos.hosts import Host, Process
from tests.chaos.platform import Platform
from tests.chaos.scale import LEASE_SECONDS, LONG_PAUSE_SECONDS, ORPHAN_SECONDS

#: The share of killed encoders that may be starting or idle.
IDLE_VICTIMS = 0.15
#: What fills a disk; it goes after this many seconds.
FULL_SECONDS = 2.0


@dataclass(frozen=True)
class Later:
    at: float
    act: Callable[[], None]


class Actor:
    """`act(fault)` returns whether it found a victim; `tend` does what is due."""

    def __init__(self, stack: Stack, hosts: list[Host], platform: Platform, endpoint: str, *, disks: bool) -> None:
        self._stack, self._hosts, self._platform, self._endpoint = stack, hosts, platform, endpoint
        self._disks = disks
        self._later: list[Later] = []
        self._stopped: dict[int, Process] = {}
        self.done: Counter[Kind] = Counter()
        self.killed: list[Killed] = []
        self.orphans: list[str] = []
        self.notes: list[str] = []

    def act(self, fault: Fault) -> bool:
        """Do it; False when nobody is there to suffer it now."""
        draw = random.Random(fault.draw)
        kind = fault.kind
        if kind in (Kind.KILL_ENCODER, Kind.PAUSE_ENCODER, Kind.PAUSE_ENCODER_LONG):
            done = self._on_encoder(kind, draw)
        elif kind in ROLES:
            done = self._on_role(kind, ROLES[kind], draw)
        else:
            done = self._on_server(kind, draw)
        self.done[kind] += done
        return done

    def tend(self) -> None:
        now = time.monotonic()
        due = [later for later in self._later if later.at <= now]
        self._later = [later for later in self._later if later.at > now]
        for later in due:
            later.act()

    def finish(self) -> None:
        """Everything that was stopped goes on, and nothing new breaks."""
        while self._stopped or self._later:
            self.tend()
            time.sleep(0.1)
        self._odds({})

    @property
    def busy(self) -> bool:
        """Whether something is still to be undone or looked at."""
        return bool(self._later)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._later.append(Later(time.monotonic() + seconds, act))

    def _on_encoder(self, kind: Kind, draw: random.Random) -> bool:
        """One that holds a video, if there is any."""
        held = {
            int(row["leased_by"].rpartition(":")[2]): row
            for row in self._platform.query("SELECT id, lease_epoch, leased_by FROM video WHERE status = 'PROCESSING'")
        }
        found = [(host, process) for host in self._hosts for process in host.family() if process.role == "encoder"]
        found = [(host, process) for host, process in found if process.pid not in self._stopped]
        busy = [(host, process) for host, process in found if process.pid in held]
        if kind is Kind.KILL_ENCODER and draw.random() < IDLE_VICTIMS:
            busy = found
        if not busy:
            return False
        _, victim = draw.choice(busy)
        if kind is not Kind.KILL_ENCODER:
            self._pause([victim], LONG_PAUSE_SECONDS if kind is Kind.PAUSE_ENCODER_LONG else draw.uniform(0.2, 3))
            return True
        if not victim.signal(signal.SIGKILL):
            return False
        if row := held.get(victim.pid):
            self.killed.append(Killed(row["id"], row["lease_epoch"], datetime.now(UTC)))
        return True

    def _on_role(self, kind: Kind, role: str, draw: random.Random) -> bool:
        living = [host for host in self._hosts if host.process is not None]
        draw.shuffle(living)
        for host in living:
            family = [process for process in host.family() if process.pid not in self._stopped]
            victims = [process for process in family if process.role == role]
            # one that is only loading its program heeds no signal yet
            starting = kind is Kind.DRAIN_HOST and not any(process.role == "encoder" for process in family)
            if not victims or starting:
                continue
            victim = draw.choice(victims)
            if kind is Kind.PAUSE_HOST_LONG:
                self._pause(family, LONG_PAUSE_SECONDS)
            elif kind in (Kind.PAUSE_PROGRAM, Kind.PAUSE_SUPERVISOR, Kind.PAUSE_FORK_SERVER):
                self._pause([victim], draw.uniform(0.5, 4))
            elif kind is Kind.DRAIN_HOST:
                return victim.signal(signal.SIGTERM)
            else:
                return self._kill(host, family, victim)
            return True
        return False

    def _kill(self, host: Host, family: list[Process], victim: Process) -> bool:
        if not victim.signal(signal.SIGKILL):
            return False
        if victim.role in ("supervisor", "fork server"):
            orphans = [
                process for process in family if process.role in ("encoder", "starter", "program", "below program")
            ]
            self._after(ORPHAN_SECONDS, lambda: self._look_for_orphans(host, victim, orphans))
        return True

    def _look_for_orphans(self, host: Host, victim: Process, family: list[Process]) -> None:
        """F31. One that stands still cannot die, nor does what it started; they are looked at again when it goes on."""
        left = [process for process in family if process.alive]
        if standing := [process for process in left if any(pid in self._stopped for pid in process.line())]:
            self._after(ORPHAN_SECONDS, lambda: self._look_for_orphans(host, victim, standing))
        for process in left:
            if process not in standing:
                self.orphans.append(
                    f"{host.name}: {process.role} {process.pid} outlived its {victim.role} {victim.pid}"
                )
                process.signal(signal.SIGKILL)

    def _pause(self, victims: list[Process], seconds: float) -> None:
        for victim in victims:
            if victim.signal(signal.SIGSTOP):
                self._stopped[victim.pid] = victim
        self._after(seconds, lambda: self._go_on(victims))

    def _go_on(self, victims: list[Process]) -> None:
        for victim in victims:
            victim.signal(signal.SIGCONT)
        # Until it had time to notice what happened meanwhile.
        self._after(ORPHAN_SECONDS, lambda: [self._stopped.pop(victim.pid, None) for victim in victims] and None)

    def _on_server(self, kind: Kind, draw: random.Random) -> bool:
        postgres = self._stack.postgres
        if kind is Kind.FLUSH_REDIS:
            client = redis.Redis.from_url(self._stack.redis.url)
            client.flushall()
            client.close()
        elif kind is Kind.RESTART_REDIS:
            self._stack.redis.kill()
            self._stack.redis.start()
        elif kind is Kind.RESTART_POSTGRES_FAST:
            postgres.restart()
        elif kind in (Kind.RESTART_POSTGRES_NOW, Kind.STOP_POSTGRES_LONG):
            pid = postgres.pid
            assert pid is not None
            os.kill(pid, signal.SIGQUIT)
            while postgres.pid is not None:
                time.sleep(0.05)
            if kind is Kind.STOP_POSTGRES_LONG:
                time.sleep(LEASE_SECONDS + 2)
            postgres.start()
        elif kind is Kind.KILL_BACKEND:
            self._platform.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'video-appliance%%' AND pid <> pg_backend_pid()"
                " ORDER BY md5(pid::text || %s) LIMIT %s",
                str(draw.random()),
                draw.choice((1, 1, 1, 3, 100)),
            )
        elif kind in (Kind.S3_OUTAGE, Kind.SQS_OUTAGE):
            self._odds(S3_DOWN if kind is Kind.S3_OUTAGE else SQS_DOWN)
            self._after(draw.uniform(*OUTAGE_SECONDS), lambda: self._odds(ODDS))
        else:
            return self._fill(draw)
        return True

    def _fill(self, draw: random.Random) -> bool:
        if not self._disks:
            return False
        path = draw.choice(self._hosts).scratch / "full"
        try:
            with path.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        except OSError:
            self._after(FULL_SECONDS, lambda: path.unlink(missing_ok=True))
        return True

    def _odds(self, odds: dict[str, float]) -> None:
        request = urllib.request.Request(f"{self._endpoint}/_chaos", json.dumps(odds).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def begin(self) -> None:
        self._odds(ODDS)

    def struck(self) -> dict[str, int]:
        """How often each kind of fault hit a request."""
        with urllib.request.urlopen(f"{self._endpoint}/_chaos", timeout=10) as answer:
            return {kind: number for kind, number in json.loads(answer.read()).items() if number}


#: Faults of whoever plays this part.
ROLES = {
    Kind.KILL_PROGRAM: "program",
    Kind.KILL_SUPERVISOR: "supervisor",
    Kind.KILL_FORK_SERVER: "fork server",
    Kind.DRAIN_HOST: "supervisor",
    Kind.PAUSE_PROGRAM: "program",
    Kind.PAUSE_SUPERVISOR: "supervisor",
    Kind.PAUSE_FORK_SERVER: "fork server",
    Kind.PAUSE_HOST_LONG: "supervisor",
}
