"""Who holds a TCP port, as far as /proc shows it."""

from __future__ import annotations

from pathlib import Path

#: State 0A of /proc/net/tcp: LISTEN.
LISTEN = "0A"


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """`node_exporter (pid 812)`, or `another process` when it is another user's and we may not look."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port, proc)}
    for process in proc.glob("[0-9]*"):
        if sockets & _open(process):
            return f"{_name(process)} (pid {process.name})"
    return "another process"


def listening(port: int, proc: Path = Path("/proc")) -> bool:
    """Whether anybody listens on it."""
    return bool(_listening(port, proc))


def _listening(port: int, proc: Path) -> set[str]:
    """Inodes of the sockets that listen on the port, on any address (proc(5): field 2 address, 4 state, 10 inode)."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        path = proc / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _open(process: Path) -> set[str]:
    links = set()
    try:
        for entry in (process / "fd").iterdir():
            links.add(str(entry.readlink()))
    except OSError:
        pass  # gone meanwhile, or not ours to look at
    return links


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"
