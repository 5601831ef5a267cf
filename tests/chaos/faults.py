"""What goes wrong, and when: a schedule drawn from the seed before the run begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    KILL_ENCODER = "kill encoder"
    KILL_PROGRAM = "kill ffmpeg"
    KILL_SUPERVISOR = "kill supervisor"
    KILL_FORK_SERVER = "kill fork server"
    DRAIN_HOST = "SIGTERM host"
    PAUSE_ENCODER = "pause encoder"
    PAUSE_ENCODER_LONG = "pause encoder past its lease"
    PAUSE_PROGRAM = "pause ffmpeg"
    PAUSE_SUPERVISOR = "pause supervisor"
    PAUSE_FORK_SERVER = "pause fork server"
    PAUSE_HOST_LONG = "pause host past its leases"
    FLUSH_REDIS = "FLUSHALL"
    RESTART_REDIS = "restart redis"
    RESTART_POSTGRES_FAST = "restart postgres, fast"
    RESTART_POSTGRES_NOW = "restart postgres, immediate"
    STOP_POSTGRES_LONG = "postgres gone past the lease"
    KILL_BACKEND = "kill backend"
    S3_OUTAGE = "s3 outage"
    SQS_OUTAGE = "sqs outage"
    DISK_FULL = "disk full"


#: How many a minute. The long run wants 500 kills, 100 pauses and 20 restarts each within a quarter of an hour.
PER_MINUTE: dict[Kind, float] = {
    Kind.KILL_ENCODER: 24,
    Kind.KILL_PROGRAM: 12,
    Kind.KILL_SUPERVISOR: 1.5,
    Kind.KILL_FORK_SERVER: 2,
    Kind.DRAIN_HOST: 0.6,
    Kind.PAUSE_ENCODER: 4,
    Kind.PAUSE_ENCODER_LONG: 3,
    Kind.PAUSE_PROGRAM: 1,
    Kind.PAUSE_SUPERVISOR: 1,
    Kind.PAUSE_FORK_SERVER: 0.5,
    Kind.PAUSE_HOST_LONG: 0.4,
    Kind.FLUSH_REDIS: 2,
    Kind.RESTART_REDIS: 1.8,
    Kind.RESTART_POSTGRES_FAST: 1,
    Kind.RESTART_POSTGRES_NOW: 0.8,
    Kind.STOP_POSTGRES_LONG: 0.15,
    Kind.KILL_BACKEND: 6,
    Kind.S3_OUTAGE: 0.3,
    Kind.SQS_OUTAGE: 0.5,
    Kind.DISK_FULL: 0.5,
}
#: However short the run, these happen once: without them it proves nothing.
ALWAYS = (
    Kind.KILL_SUPERVISOR,
    Kind.KILL_FORK_SERVER,
    Kind.PAUSE_ENCODER_LONG,
    Kind.RESTART_REDIS,
    Kind.RESTART_POSTGRES_NOW,
)
KILLS = (Kind.KILL_ENCODER, Kind.KILL_PROGRAM, Kind.KILL_SUPERVISOR, Kind.KILL_FORK_SERVER)
PAUSES = (
    Kind.PAUSE_ENCODER,
    Kind.PAUSE_ENCODER_LONG,
    Kind.PAUSE_PROGRAM,
    Kind.PAUSE_SUPERVISOR,
    Kind.PAUSE_FORK_SERVER,
    Kind.PAUSE_HOST_LONG,
)
POSTGRES_RESTARTS = (Kind.RESTART_POSTGRES_FAST, Kind.RESTART_POSTGRES_NOW, Kind.STOP_POSTGRES_LONG)

#: What the endpoint does to single requests, as probabilities.
ODDS: dict[str, float] = {
    "s3 5xx": 0.01,
    "s3 slow": 0.002,
    "s3 reset before": 0.003,
    "s3 reset after": 0.003,
    "s3 upload cut": 0.003,
    "s3 download cut": 0.003,
    "sqs 5xx": 0.01,
    "sqs delete lost": 0.03,
    "sqs delivery dropped": 0.02,
    "sqs message delayed": 0.05,
    "sqs message doubled": 0.1,
}
S3_DOWN = {**ODDS, "s3 5xx": 1.0}
SQS_DOWN = {**ODDS, "sqs 5xx": 1.0}
OUTAGE_SECONDS = (1.0, 5.0)


@dataclass(frozen=True)
class Fault:
    """`draw` decides among the possible victims, so that the schedule is the seed's and the victim the moment's."""

    at_seconds: float
    kind: Kind
    draw: float


def schedule(seed: int, minutes: float) -> list[Fault]:
    """Spread over the run, but for its first twentieth: somebody must have begun something."""
    random_ = random.Random(seed)
    seconds = minutes * 60
    faults = []
    for kind, rate in PER_MINUTE.items():
        expected = rate * minutes
        number = int(expected) + (random_.random() < expected % 1)
        if kind in ALWAYS:
            number = max(1, number)
        # what lasts longer than its beginning must begin early enough to be seen through
        last = 0.6 if kind is Kind.PAUSE_ENCODER_LONG else 1.0
        faults += [Fault(random_.uniform(0.05, last) * seconds, kind, random_.random()) for _ in range(number)]
    return sorted(faults, key=lambda fault: fault.at_seconds)
