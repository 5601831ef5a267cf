"""Threads that allocate at the same time, in a process of their own; the C library says how many heaps it keeps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = """
import ctypes, sys, threading
from appliance.wiring.memory import one_heap
if sys.argv[2] == "one":
    assert one_heap()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
def allocate():
    libc.malloc(100_000)  # ctypes lets go of the interpreter's lock
    together.wait()
together = threading.Barrier(8)
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.parametrize(("asked", "more_than_one"), [("one", False), ("many", True)])
def test_threads_share_one_heap_once_it_was_asked_for(tmp_path: Path, asked: str, more_than_one: bool) -> None:
    report = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", THREADS, report, asked], check=True)
    assert (len(re.findall("<heap nr", report.read_text())) > 1) == more_than_one
