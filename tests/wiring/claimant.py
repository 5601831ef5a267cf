"""A supervisor with children that claim a video and hold it until they are killed: run as a program of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from uuid import uuid4

from appliance import log
from appliance.config import Config, load
from appliance.domain.events import Alive, Booted, Claimed, Claiming, NotClaimed, Settled
from appliance.domain.video import Worker
from appliance.encoder.parent import die_with_parent
from appliance.supervisor.fork import start_fork_server
from appliance.wiring import adapters
from appliance.wiring.supervisor import build


def claimant(config: Config, slot: int, connection: Connection) -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    die_with_parent()
    leases = adapters.leases(config, adapters.database(config, "claimant"))
    connection.send(Booted(os.getpid()))
    while not told:
        connection.send(Alive())
        token = uuid4()
        connection.send(Claiming(token))
        lease = leases.claim_next(Worker("host", f"host:{slot}"), token)
        if lease is None:
            connection.send(NotClaimed(token))
            time.sleep(0.05)
            continue
        connection.send(Claimed(token, lease.video_id, lease.tenant_id, lease.epoch, lease.waited_seconds))
        while not told:
            time.sleep(0.05)
        leases.release(lease, reason="drained", receipt={})
        connection.send(Settled(token, lease.video_id, "released"))


def main() -> int:
    log.configure("info")
    start_fork_server([])
    return build(load(sys.argv[1]), claimant).run()


if __name__ == "__main__":
    from tests.wiring import claimant as module

    sys.exit(module.main())
