from __future__ import annotations

import os

import pytest

from appliance.supervisor.capacity import Host, encoders, look

GIB = 1024**3


@pytest.mark.parametrize(
    ("host", "count", "why"),
    [
        (Host(8, None, 64 * GIB, None), 8, "8 encoders: 8 cores ÷ 1 per encoder (64.0 GiB ÷ 1.5 GiB"),
        (Host(8, 2.5, 64 * GIB, None), 2, "2 encoders: 2.5 cores"),
        (Host(8, None, 4 * GIB, None), 2, "2 encoders: 4.0 GiB ÷ 1.5 GiB per encoder (8 cores ÷ 1 per encoder would"),
        (Host(8, None, 64 * GIB, 3 * GIB), 2, "2 encoders: 3.0 GiB"),
        (Host(1, 0.5, GIB, None), 1, "1 encoders: 0.5 cores ÷ 1 per encoder (1.0 GiB ÷ 1.5 GiB per encoder would"),
    ],
)
def test_the_scarcer_of_cores_and_memory_decides_and_says_so(host, count, why):
    found, sentence = encoders(host, cores_per_encoder=1.0, memory_per_encoder_bytes=3 * GIB // 2)
    assert (found, sentence[: len(why)]) == (count, why)


def write(root, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_cgroup_v2_the_tightest_level_holds(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/video-appliance.service\n",
            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/system.slice/memory.max": "max\n",
            "sys/fs/cgroup/system.slice/video-appliance.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/video-appliance.service/memory.max": "2147483648\n",
        },
    )
    host = look(tmp_path)
    assert (host.quota_cores, host.memory_limit_bytes) == (1.5, 2 * GIB)


def test_cgroup_v1(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box\n2:cpu,cpuacct:/box\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1073741824\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    host = look(tmp_path)
    assert (host.quota_cores, host.memory_limit_bytes) == (3.0, GIB)


def test_no_cgroup_is_no_limit(tmp_path):
    host = look(tmp_path)
    assert (host.quota_cores, host.memory_limit_bytes) == (None, None)


def test_affinity_is_respected():
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        assert look().cores == 1
    finally:
        os.sched_setaffinity(0, everywhere)
