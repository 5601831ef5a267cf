"""What EC2 says of this host, asked every few seconds and put on the board, where the main loop finds it.

A thread of its own, so that nobody waits for an answer, and it for nobody: two minutes are short.
"""

from __future__ import annotations

import threading

import structlog

from appliance.adapters.ec2 import Metadata
from appliance.domain.errors import Unavailable
from appliance.domain.notice import notice
from appliance.supervisor.board import Board
from appliance.supervisor.dependencies import Dependencies

OBSERVER = "notices"
#: What EC2 recommends; domain.notice.SPOT_SECONDS reckons with it.
ASK_SECONDS = 5.0


class Notices:
    """`metadata` is this thread's own."""

    def __init__(
        self, metadata: Metadata, *, drain_on_rebalance: bool, board: Board, dependencies: Dependencies
    ) -> None:
        self._metadata, self._drain_on_rebalance = metadata, drain_on_rebalance
        self._board, self._dependencies = board, dependencies
        self._log = structlog.get_logger()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        self._thread.join(seconds)

    def ask(self) -> None:
        """Once. Never raises; while nobody answers, what was known stays."""
        try:
            with self._dependencies.watched(OBSERVER, "ec2"):
                self._board.instance_id = self._board.instance_id or self._metadata.instance_id()
                self._board.seen = self._metadata.look()
        except Unavailable:
            return  # noted
        except Exception:  # noqa: BLE001 - a mistake of ours must not end the thread that hears of the host's end
            self._log.exception("NOTICES_FAILED")
            return
        self._tell()

    def _tell(self) -> None:
        found = notice(self._board.seen, drain_on_rebalance=self._drain_on_rebalance)
        before, self._board.notice = self._board.notice, found
        if found and found != before:
            self._log.warning("HOST_NOTICE", kind=str(found.kind), drains=found.drains, notice=found.sentence)
        elif before and not found:
            self._log.info("HOST_NOTICE_OVER", kind=str(before.kind))
        if found and not found.drains:
            self._board.notices["ec2"] = found.sentence
        else:  # `unready` says it
            self._board.notices.pop("ec2", None)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(ASK_SECONDS)
