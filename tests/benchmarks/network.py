"""A small network in namespaces of its own: servers and hosts with addresses, and cables that can be cut.

Everything lives in the network and mount namespaces of one process, made by `alone`, and goes with it. The servers
listen on that process's loopback; a forwarder gives each an address that the hosts reach over a bridge.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Set once this process has namespaces of its own.
ALONE = "BENCH_OWN_NETWORK"
NETWORK = "10.99.0"
#: A neighbour that does not exist: what is sent to it is lost without a word, as by a cut cable.
NOBODY = "02:00:00:00:00:99"
READ_BYTES = 1 << 16
#: Where ip(8) keeps its names; ours go into a file system of their own.
NAMES = Path("/run/netns")


def alone(module: str) -> bool:
    """Start this program over in namespaces of its own; False where the kernel does not let us."""
    unshare = ["unshare", "--net", "--mount", "--propagation", "private"]
    if ALONE not in os.environ:
        if subprocess.run([*unshare, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
            return False
        os.environ[ALONE] = "1"
        os.execvp("unshare", [*unshare, sys.executable, "-m", module, *sys.argv[1:]])
    _ip("link", "set", "lo", "up")
    return True


@dataclass(frozen=True)
class Network:
    """`servers`: name → (address, port), for the hosts."""

    servers: dict[str, tuple[str, int]]
    hosts: tuple[str, ...]

    def inside(self, host: str) -> list[str]:
        """What runs a command on this host, under its name."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        return ["ip", "netns", "exec", host, *named]

    def cut(self, host: str, server: str) -> None:
        _ip(
            "-n", host, "neigh", "replace", self.servers[server][0], "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"
        )

    def mend(self, host: str, server: str) -> None:
        _ip("-n", host, "neigh", "del", self.servers[server][0], "dev", "eth0")

    def pids(self, host: str) -> list[int]:
        """Every process of the host."""
        found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]


@contextlib.contextmanager
def network(servers: dict[str, int], hosts: tuple[str, ...]) -> Iterator[Network]:
    """`servers`: name → port on the loopback. Only in namespaces that `alone` made."""
    assert ALONE in os.environ
    addresses = {name: (f"{NETWORK}.{number}", port) for number, (name, port) in enumerate(servers.items(), 1)}
    NAMES.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "names", str(NAMES)], check=True)
    _ip("link", "add", "bridge", "type", "bridge")
    _ip("link", "set", "bridge", "up")
    for address, _ in addresses.values():
        _ip("addr", "add", f"{address}/24", "dev", "bridge")
    for number, host in enumerate(hosts, 11):
        _plug_in(host, f"{NETWORK}.{number}/24")
    with _forwarding(addresses):
        yield Network(addresses, hosts)


def _plug_in(host: str, address: str) -> None:
    _ip("netns", "add", host)
    _ip("link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", host)
    _ip("link", "set", f"to-{host}", "master", "bridge", "up")
    _ip("-n", host, "addr", "add", address, "dev", "eth0")
    _ip("-n", host, "link", "set", "eth0", "up")
    _ip("-n", host, "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def _forwarding(addresses: dict[str, tuple[str, int]]) -> Iterator[None]:
    """Each address's port leads to the same port on the loopback."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="forwarder", daemon=True)
    thread.start()
    try:
        for address, port in addresses.values():
            asyncio.run_coroutine_threadsafe(_forward(address, port), loop).result(10)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_hang_up(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _hang_up() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _forward(address: str, port: int) -> None:
    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            back, forth = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_copy(reader, forth), _copy(back, writer))
        writer.close()

    await asyncio.start_server(joined, address, port)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
