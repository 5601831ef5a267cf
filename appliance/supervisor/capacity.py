"""How many encoders this host carries: `auto` of `pool.encoders`, as arithmetic on what the kernel grants us."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: cgroup v1 says "no limit" with a number near 2^63; nothing real is this large (1 EiB).
UNLIMITED_BYTES = 2**60


@dataclass(frozen=True)
class Host:
    """What we may use: `cores` by affinity, `quota_cores` by cgroup (None: no quota), memory in bytes likewise."""

    cores: int
    quota_cores: float | None
    memory_bytes: int
    memory_limit_bytes: int | None


def encoders(host: Host, *, cores_per_encoder: float, memory_per_encoder_bytes: int) -> tuple[int, str]:
    """(number of encoders, at least 1; the sentence that says why)."""
    cores = min(float(host.cores), host.quota_cores or float(host.cores))
    memory_bytes = min(host.memory_bytes, host.memory_limit_bytes or host.memory_bytes)
    by_cores = int(cores / cores_per_encoder)
    by_memory = memory_bytes // memory_per_encoder_bytes
    count = max(1, min(by_cores, by_memory))
    cores_why = f"{cores:g} cores ÷ {cores_per_encoder:g} per encoder"
    memory_why = f"{_gib(memory_bytes)} ÷ {_gib(memory_per_encoder_bytes)} per encoder"
    binding = cores_why if by_cores <= by_memory else memory_why
    other = memory_why if by_cores <= by_memory else cores_why
    limit = "" if count == min(by_cores, by_memory) else "; one encoder is the least"
    return count, f"{count} encoders: {binding} ({other} would allow {max(by_cores, by_memory)}){limit}"


def look(root: Path = Path("/")) -> Host:
    """This process's own limits, cgroup v1 and v2, every level from its group up (the tightest one holds)."""
    groups = _groups(root)
    quotas = [quota for group in groups if (quota := _quota(group)) is not None]
    limits = [limit for group in groups if (limit := _memory_limit(group)) is not None]
    return Host(
        cores=len(os.sched_getaffinity(0)),
        quota_cores=min(quotas, default=None),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        memory_limit_bytes=min(limits, default=None),
    )


@dataclass(frozen=True)
class Scratch:
    """What lies in the scratch directory, and what is free beside it."""

    used_bytes: int
    free_bytes: int


def scratch(directory: Path) -> Scratch | None:
    """Now; None while there is no such directory. Files that go away meanwhile are not counted."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        return None
    used = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                used += (Path(place) / name).stat().st_blocks * 512
    return Scratch(used, free)


def _groups(root: Path) -> list[Path]:
    """The directories that may hold a limit of ours; /proc/self/cgroup has `id:controllers:path` lines."""
    base = root / "sys/fs/cgroup"
    found: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        wanted = {"cpu", "memory"}.intersection(controllers.split(","))
        for mount in [base] if not controllers else [base / controllers, *(base / name for name in wanted)]:
            inner = mount / path.lstrip("/")
            found += [group for group in (inner, *inner.parents) if group.is_relative_to(mount)]
    return list(dict.fromkeys(found))


def _quota(group: Path) -> float | None:
    """Cores granted by `cpu.max` (v2: `quota period`) or by cpu.cfs_quota_us (v1; -1 is none)."""
    fields = _read(group / "cpu.max").split() or [
        _read(group / "cpu.cfs_quota_us").strip(),
        _read(group / "cpu.cfs_period_us").strip(),
    ]
    quota, period = (_number(text) for text in fields)
    return quota / period if quota and period and quota > 0 else None


def _memory_limit(group: Path) -> int | None:
    limit = _number(_read(group / "memory.max").strip() or _read(group / "memory.limit_in_bytes").strip())
    return limit if limit and limit < UNLIMITED_BYTES else None


def _number(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"
