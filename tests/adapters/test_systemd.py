from __future__ import annotations

import os
import socket

import pytest

from appliance.adapters.systemd import Notify


@pytest.fixture
def gate():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gate:
        gate.bind(f"\0video-appliance-test-{os.getpid()}")
        gate.settimeout(10)
        yield gate


@pytest.fixture
def environment(gate) -> dict[str, str]:
    return {"NOTIFY_SOCKET": "@" + gate.getsockname()[1:].decode()}


def test_every_message_as_sd_notify_wants_it(gate, environment):
    notify = Notify({**environment, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())})
    notify.ready()
    notify.status("2 encoders: 1 busy")
    notify.alive()
    notify.stopping()
    notify.extend_timeout(1.5)
    assert [gate.recv(4096).decode() for _ in range(5)] == [
        "READY=1",
        "STATUS=2 encoders: 1 busy",
        "WATCHDOG=1",
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}])
def test_the_watchdog_is_fed_only_where_one_waits_for_this_process(gate, environment, watchdog):
    notify = Notify({**environment, **watchdog})
    notify.alive()
    notify.ready()
    assert gate.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all"])
def test_without_systemd_nothing_happens(address):
    Notify({"NOTIFY_SOCKET": address}).ready()
