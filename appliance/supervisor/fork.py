"""How children are made: forked from a server that was started first, while this process was still bare."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from typing import Any

from appliance.config import Config
from appliance.supervisor.pool import Child

#: What a child runs: (settings, slot, its end of the pipe).
Entry = Callable[[Config, int, Any], Any]


def start_fork_server(preload: list[str]) -> None:
    """To be called while this process has one thread and no connections (F42); `preload` is imported there once."""
    # Children would import this process's main script, the command line; they have an entry of their own.
    sys.modules["__main__"].__spec__ = ModuleSpec("appliance.__main__", None)
    forkserver.set_forkserver_preload(preload)
    forkserver.ensure_running()


def spawner(config: Config, entry: Entry) -> Callable[[int], Child]:
    """How to make a child with these settings; the pipe leads one way, from the child to us."""
    context: ForkServerContext = multiprocessing.get_context("forkserver")

    def spawn(slot: int) -> Child:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=entry, args=(config, slot, theirs), name=f"encoder-{slot}")
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Child(process, ours)

    return spawn
